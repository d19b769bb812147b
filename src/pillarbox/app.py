"""Puts the parts together: the only file that knows them all."""

import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.types import ASGIApp

from pillarbox import telemetry, wording
from pillarbox.chores import Chores
from pillarbox.core.delivery import Outcome, Purpose, Schedule
from pillarbox.core.errors import NotKept
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.letter import Letter
from pillarbox.core.quota import Rate
from pillarbox.core.submission import Answer, Submission
from pillarbox.dispatch import LEASE, Dispatcher, Transport, Way
from pillarbox.doctor import Finding, examine_store, examine_way
from pillarbox.intake import new_id
from pillarbox.settings import Settings, WrongSettings, load
from pillarbox.stationery import Stationery
from pillarbox.store import migrating, submissions, ways
from pillarbox.store.claims import Claimed
from pillarbox.store.engine import Store, reason, sqlite_path
from pillarbox.store.keeper import Keeper
from pillarbox.store.migrating import Schema
from pillarbox.store.submissions import Kept
from pillarbox.telemetry import LogStyle, road
from pillarbox.transports.maildir import MaildirTransport
from pillarbox.transports.smtp import SmtpServer, SmtpTransport
from pillarbox.web import routes
from pillarbox.web.answering import Answers
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import ClientAddress, Cors, KnownHosts, Limiter, SecurityHeaders
from pillarbox.web.health import Health
from pillarbox.web.mailbox import Mailbox
from pillarbox.web.pages import Pages
from pillarbox.worker import Worker

WAY = "default"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process works with, whether it serves, dispatches, or both. Belongs to one event loop once started."""

    settings: Settings
    form: Form
    store: Store
    keeper: Keeper
    transport: Transport
    worker: Worker

    async def keep(self, kept: Kept) -> None:
        """Put a message on disk and wake the dispatcher; raises NotKept."""
        size = sum(len(value) for answer in kept.submission.answers for value in answer.values) + 1_000
        await self.keeper.run(submissions.keep, kept, size=size)
        self.worker.wake()

    async def beat(self) -> None:
        """Prove that messages can be kept; raises NotKept."""
        await self.keeper.run(ways.beat, time.time(), size=1)

    def mail_is_failing(self) -> bool:
        """Whether a way out is shut; raises NotKept when the store can't be read."""
        with self.store.reading() as connection:
            return bool(ways.find_shut(connection))

    @asynccontextmanager
    async def running(self, *, dispatching: bool) -> AsyncIterator[None]:
        """Keep, and dispatch if asked to; on leaving, finish what is on the wire, then keep what waits, then close."""
        gc.collect()
        gc.freeze()  # what a start makes stays; looking through it again and again took a seventh of the processor
        self.keeper.start()
        if dispatching:
            self.worker.start()
        try:
            yield
        finally:
            if dispatching:
                await self.worker.stop()
            await self.keeper.close()
            self.store.close()


def assemble(settings: Settings, *, lease: float = LEASE) -> Parts:
    """Return the parts for these settings, with the store opened and its schema brought up to date.

    `lease` is how many seconds a claimed letter belongs to this process.
    """
    if settings.default_language not in wording.languages():
        known = ", ".join(wording.languages())
        raise WrongSettings([f"DEFAULT_LANGUAGE is not right: there are {known}."])
    telemetry.set_up(log_style(settings))
    form = contact_form(settings)
    store = open_store(settings)
    transport = make_transport(settings)
    keeper = Keeper(store)
    way = Way(
        name=WAY,
        transport=transport,
        connections=settings.smtp_connections,
        schedule=Schedule(settings.retry_schedule, settings.probe_interval),
        poll=settings.poll_interval,
        confirmations_per_hour=settings.confirmations_per_hour,
    )
    stationery = Stationery()

    def compose(claimed: Claimed) -> Letter:
        delivery = claimed.delivery
        return stationery.compose(
            claimed.submission, form, delivery_id=delivery.id, purpose=delivery.purpose, recipient=delivery.recipient
        )

    dispatcher = Dispatcher(way, keeper=keeper, compose=compose, lease=lease)
    worker = Worker(store, keeper=keeper, dispatchers=[dispatcher], chores=Chores(keeper))
    return Parts(settings, form, store, keeper, transport, worker)


def open_store(settings: Settings) -> Store:
    """Return the store with its schema up to date, or as it is with MIGRATE=off. Raises WrongSettings."""
    store, schema = _open_with(migrating.standing if settings.migrate == "off" else migrating.upgrade, settings)
    if schema is Schema.NEWER:
        road.warning(
            "schema_is_newer", meaning="a newer Pillarbox made this database; going on with what is known here"
        )
    if schema is Schema.BEHIND and settings.migrate == "off":
        raise WrongSettings(["MIGRATE is off and the database is behind this version: run `pillarbox upgrade` first."])
    return store


def _open_with(look: Callable[[Store], Schema], settings: Settings) -> tuple[Store, Schema]:
    """Return the store and what the look at its schema found; raises WrongSettings when it can't be opened."""
    try:
        store = Store.open(settings.database_url)
        return store, look(store)
    except OSError as error:
        raise WrongSettings([f"DATABASE_URL: {error.filename} can't be opened: {error.strerror}."]) from error
    except NotKept as error:
        path = sqlite_path(settings.database_url)
        raise WrongSettings([f"DATABASE_URL: {path} can't be used: {reason(error)}."]) from error


def log_style(settings: Settings) -> LogStyle:
    """Return how these settings want the log."""
    default = "json" if settings.is_production else "text"
    return LogStyle(settings.log_level, settings.log_format or default, settings.log_file)


def contact_form(settings: Settings) -> Form:
    """Return the default form that these settings describe."""
    own_origin = _origin(settings.public_url)
    named = tuple(origin for origin in settings.cors_origins or () if origin != "*")
    return Form(
        slug="contact",
        fields=CONTACT_FIELDS,
        owners=Owners(settings.recipients, settings.cc_email, settings.bcc_email),
        sender=settings.sender,
        site_name=settings.site_name,
        accent=settings.accent_color,
        logo_url=settings.logo_url,
        language=settings.default_language,
        timezone=settings.timezone,
        confirms=settings.confirmation_email,
        way=WAY,
        origins=(*((own_origin,) if own_origin else ()), *named),
    )


def make_transport(settings: Settings) -> Transport:
    """Return the way out."""
    if settings.mails_to_a_folder:
        return MaildirTransport(settings.mail_folder)
    return SmtpTransport(
        SmtpServer(
            host=settings.smtp_server,
            port=settings.smtp_port,
            security=settings.security,
            username=settings.smtp_username or settings.sender,
            password=settings.email_password.get_secret_value(),
            ca_file=settings.smtp_ca_file,
            connections=settings.smtp_connections,
            connect_seconds=min(10.0, settings.smtp_timeout),
            command_seconds=settings.smtp_timeout,
            dot_seconds=settings.smtp_timeout * 10,
        )
    )


def create_app(settings: Settings | None = None) -> ASGIApp:
    """Return the ASGI application for these settings, or for those of the environment. Raises WrongSettings."""
    parts = assemble(settings or load())
    settings, form = parts.settings, parts.form
    assets = Assets(settings.accent_color)
    pages = Pages(form, assets)
    answers = Answers(form, pages, public_url=settings.public_url)
    front = Front(
        form=form,
        pages=pages,
        answers=answers,
        limiter=Limiter(Rate.parse(settings.rate_limit)),
        client_address=ClientAddress(settings.trusted_proxies),
        keep=parts.keep,
    )
    shows_mail = settings.mails_to_a_folder and not settings.is_production
    return routes.make(
        front,
        Health(parts.beat, parts.mail_is_failing),
        assets=assets,
        mailbox=Mailbox(settings.mail_folder, assets) if shows_mail else None,
        lifespan=lambda _web: parts.running(dispatching=settings.dispatch),
        guards=_guards(settings, form, answers),
    )


def _guards(settings: Settings, form: Form, answers: Answers) -> list[Middleware]:
    """Return what stands before every route, the outermost first."""
    logo = _origin(settings.logo_url)
    guards = [Middleware(SecurityHeaders, image_origins=(logo,) if logo else (), form_targets=form.origins)]
    hosts = settings.allowed_hosts
    if not hosts and settings.public_url:
        hosts = (urlsplit(settings.public_url).hostname or "", *LOOPBACK_NAMES)
    if hosts and "*" not in hosts:
        guards.append(Middleware(KnownHosts, hosts=hosts, refuse=answers.refuse))
    origins = settings.cors_origins if settings.cors_origins is not None else (() if settings.is_production else ("*",))
    if origins:
        methods = ("GET", "POST", "OPTIONS")
        guards.append(Middleware(Cors, allow_origins=origins, allow_methods=methods, allow_headers=("*",)))
    return guards


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if url else ""


async def send_test_letter(settings: Settings) -> Outcome:
    """Send one letter to the first owner through the way out, past the store, and return what became of it."""
    form = replace(contact_form(settings), owners=Owners(settings.recipients[:1]))
    sentence = "This is a test of Pillarbox: when you can read it, messages from your form reach you."
    answers = (Answer("subject", "Subject", ("Test letter",)), Answer("message", "Message", (sentence,)))
    submission = Submission(new_id(), form.slug, time.time(), form.language, answers)
    letter = Stationery().compose(
        submission, form, delivery_id=0, purpose=Purpose.NOTIFICATION, recipient=settings.recipients[0]
    )
    transport = make_transport(settings)
    try:
        return await transport.send(replace(letter, id=f"test-{submission.id}"))
    finally:
        await transport.close()


async def examine(settings: Settings) -> list[Finding]:
    """Return what is well and what is not, step by step."""
    findings = [
        Finding("settings", "ok", f"mail comes from {settings.sender} and goes to {', '.join(settings.recipients)}")
    ]
    parts = assemble(settings)
    async with parts.running(dispatching=False):
        findings.append(await examine_store(parts.beat, where=str(parts.store.path)))
        findings.append(await examine_way(parts.transport.check))
        await parts.transport.close()
    if settings.mails_to_a_folder:
        advice = "To send real mail, set SMTP_SERVER, SMTP_PORT, EMAIL_ADDRESS, EMAIL_PASSWORD and RECIPIENT_EMAIL."
        findings.append(Finding("mail", "warn", "no mail leaves this machine yet", advice))
    return findings


def upgrade_store(settings: Settings) -> str:
    """Bring the schema up to date and say how it stood."""
    store, stood = _open_with(migrating.upgrade, settings)
    store.close()
    return {
        Schema.CURRENT: "The database was up to date already.",
        Schema.BEHIND: "The database is up to date now; a copy from before lies beside it.",
        Schema.NEWER: "A newer Pillarbox made this database; nothing was changed.",
    }[stood]
