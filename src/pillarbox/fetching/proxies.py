"""Which proxy a request goes through: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as other programs read them."""

from collections.abc import Mapping

from pillarbox.fetching.addresses import bare, is_this_machine, literal, network


def choose_proxy(known: Mapping[str, str], *, scheme: str, host: str, port: int) -> str:
    """Return the proxy's address, empty for none; `known` is what `urllib.request.getproxies()` gives.

    This machine is always asked directly, and so is what NO_PROXY lists: names with all that is below them, addresses,
    networks, each with or without a port, or `*`.
    """
    found = known.get(scheme) or known.get("all") or ""
    if not found or is_this_machine(host):
        return ""
    if any(_is_meant(entry.strip().lower(), host, port) for entry in known.get("no", "").split(",")):
        return ""
    return found if "://" in found else f"http://{found}"


def _is_meant(entry: str, host: str, port: int) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    written = literal(host)
    if (listed := network(entry)) is not None:
        return written is not None and written in listed
    name, _, number = entry.rpartition(":") if ":" in entry else (entry, "", "")
    if number and number != str(port):
        return False
    if written is not None:
        return literal(name.strip("[]")) == written
    name = bare(name.removeprefix("*").removeprefix("."))
    return bare(host) == name or bare(host).endswith(f".{name}")
