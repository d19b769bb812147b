"""What a visitor writes: a letter of usual length, and no two alike."""

DOMAINS = ("example.com", "mail.example.com", "example.net", "post.example.net", "example.org", "letters.example.org")
TEXT = (
    "Good morning,\n\nI read your page about garden furniture and would like to know whether the round table "
    "also comes in oak, how long the delivery to Lübeck takes, and if the chairs can be stacked.\n\n"
    "Thank you in advance, and kind regards\nvisitor {number} of run {run}"
)


def visitor(number: int, run: str) -> dict[str, str]:
    """Return the fields of a message; every run and number has its own address and its own text."""
    return {
        "name": f"Visitor No. {number}",
        "email": f"visitor.{run}.{number}@{DOMAINS[number % len(DOMAINS)]}",
        "company": f"Company {number % 977}",
        "message": TEXT.format(number=number, run=run),
    }
