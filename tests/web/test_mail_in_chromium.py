"""The local mail page in a real browser, with mails that try everything."""

import time
from collections.abc import Iterator
from email.message import EmailMessage

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from tests.browser import expect_accessible, expect_no_sideways_scroll, running_site, said, send, visiting, write
from tests.test_digest import OUTAGE, digest, numbered
from tests.test_stationery import bodies


@pytest.fixture(scope="module")
def mallorys_site(tmp_path_factory) -> Iterator[str]:
    """A site whose Maildir holds a mail that tries everything."""
    folder = tmp_path_factory.mktemp("mallory")
    (folder / "mail/new").mkdir(parents=True)
    made = EmailMessage()
    made["From"] = "<script>owned()</script> <forms@example.org>"
    made["To"] = "ada@example.org"
    made["Subject"] = "<img src=x onerror=alert(1)> " + "unbreakable" * 30
    made.set_content("<script>alert(1)</script>\n" + "x" * 500)
    made.add_alternative(HOSTILE_HTML, subtype="html")
    (folder / "mail/new/mallory").write_bytes(bytes(made))
    with running_site(folder) as address:
        yield address


HOSTILE_HTML = """<h1>Hello</h1><script>top.document.title = 'owned'; alert(1)</script>
<img src=x onerror="top.document.title = 'owned'"><body onload="top.location = '/owned'">
<meta http-equiv=refresh content="0; url=/owned"><base href=http://192.0.2.1/ target=_top>
<iframe src=/mail></iframe><object data=/mail></object><link rel=stylesheet href=/static/x.css>
<form action=/send-message method=post target=_top><button id=trap>Continue</button></form>
<a href=/owned target=_top id=away>away</a><svg onload="top.document.title='owned'"></svg>"""


def test_stored_markup_does_nothing_in_the_mail_page(chromium, mallorys_site):
    context = chromium.new_context()
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{mallorys_site}/mail")
    page.locator(".mails a").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Hello")).to_be_visible()
    frame.locator("#trap").click()
    frame.locator("#away").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror=alert(1)>")
    page.get_by_role("link", name="Plain text").click()
    expect(page.locator("pre")).to_contain_text("<script>alert(1)</script>")
    assert dialogs == []
    assert "owned" not in page.title()
    ours = (f"{mallorys_site}/mail", f"{mallorys_site}/static/")
    assert [url for url in asked if not url.startswith(ours)] == []
    context.close()


def test_a_mails_markup_opened_by_itself_does_nothing_either(chromium, mallorys_site):
    context = chromium.new_context()
    page = context.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(f"{mallorys_site}/mail/mallory/html")
    expect(page.get_by_role("heading", name="Hello")).to_be_visible()
    assert dialogs == []
    assert page.title() == ""
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_mail_page_is_accessible_and_fits_a_small_phone(chromium, mallorys_site, scheme):
    with visiting(chromium, color_scheme=scheme, viewport={"width": 360, "height": 640}) as page:
        for path in ("/mail", "/mail/mallory?view=text"):
            page.goto(mallorys_site + path)
            expect_accessible(page)
            expect_no_sideways_scroll(page)


def test_a_sent_message_arrives_in_the_mail_page_and_an_empty_one_says_what_to_do(chromium, tmp_path):
    with running_site(tmp_path) as site, visiting(chromium) as page:
        page.goto(f"{site}/mail")
        expect(page.get_by_role("heading", name="No mail yet")).to_be_visible()
        expect_accessible(page)
        page.get_by_role("link", name="the page").click()
        write(page, Subject="Second edition")
        send(page)
        expect(said(page, "status")).to_be_visible()
        arrived = page.locator(".mails li")
        deadline = time.monotonic() + 20
        while arrived.count() < 2 and time.monotonic() < deadline:
            page.goto(f"{site}/mail")
        arrived.filter(has_text="Second edition").locator("a").click()
        expect(page.locator(".headers")).to_contain_text("bob@example.com")
        expect(page.frame_locator("iframe").locator("body")).to_contain_text("Hello Ada")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_digest_is_readable_on_a_small_phone_and_leads_to_each_message(chromium, scheme):
    unbreakable = "x" * 190
    many = numbered(
        8, name=(unbreakable,), subject=(unbreakable,), company=("<script>document.title = 'owned'</script>",)
    )
    with visiting(chromium, color_scheme=scheme, viewport={"width": 360, "height": 640}) as page:
        page.set_content(bodies(digest(*many, preface=OUTAGE))[1])
        expect_no_sideways_scroll(page)
        faded = Axe().run(page, options={"runOnly": ["color-contrast", "heading-order", "link-name"]})
        assert faded.response["violations"] == []
        expect(page.get_by_role("strong").filter(has_text="No mail could leave")).to_be_in_viewport()
        fifth = page.get_by_role("heading", name="5. ")
        expect(fifth).not_to_be_in_viewport()
        page.get_by_role("list").get_by_role("link").nth(4).click()
        expect(fifth).to_be_in_viewport()
        assert "owned" not in page.title()
