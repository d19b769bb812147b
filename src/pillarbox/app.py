"""Puts the parts together: the only file that knows them all."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from starlette.types import ASGIApp

from pillarbox import telemetry, wording
from pillarbox.alarms import Ping, rehearse
from pillarbox.chores import Chores, Purge
from pillarbox.core.delivery import Outcome, Purpose
from pillarbox.core.errors import KeyReused, NotKept
from pillarbox.core.form import Form, Owners
from pillarbox.core.keys import Keys
from pillarbox.core.letter import Letter, Preface
from pillarbox.core.once import Key
from pillarbox.core.quota import Rate
from pillarbox.core.submission import Answer, Submission
from pillarbox.dispatch import LEASE, Compose, Dispatcher, Way
from pillarbox.doctor import Finding
from pillarbox.fetching import Fetcher
from pillarbox.fittings import (
    as_sent_by,
    captcha_widget,
    contact_form,
    image_origins,
    in_ascii,
    known_origins,
    log_style,
    make_alarms,
    make_channels,
    make_fetcher,
    make_guards,
    make_transport,
    make_ways,
    make_witnesses,
    smtp_server,
)
from pillarbox.intake import Intake, new_id
from pillarbox.settings import Settings, WrongSettings, load, load_keys
from pillarbox.settings.transports import WayOut
from pillarbox.stationery import Stationery
from pillarbox.store import arrivals, condition, engine, idempotency, migrating, submissions, suppressions, ways
from pillarbox.store.arrivals import Arrival
from pillarbox.store.claims import Claimed
from pillarbox.store.counts import Bookkeeper
from pillarbox.store.engine import Store, complaint
from pillarbox.store.keeper import Keeper
from pillarbox.store.migrating import Schema
from pillarbox.store.submissions import Kept
from pillarbox.store.suppressions import Addressee, Asking
from pillarbox.telemetry import road
from pillarbox.web import routes, unsubscribing
from pillarbox.web.answering import Answers
from pillarbox.web.assets import Assets
from pillarbox.web.front import Front
from pillarbox.web.guards import ClientAddress, content_policy
from pillarbox.web.health import Health, Insiders
from pillarbox.web.limits import Everywhere, Flood, Gate, Limiter, Stamps
from pillarbox.web.mailbox import Mailbox
from pillarbox.web.metrics import Metrics
from pillarbox.web.pages import Pages
from pillarbox.web.routes import Site
from pillarbox.web.unsubscribing import Unsubscribing
from pillarbox.worker import Worker

THRESHOLDS = (700, 10, 10)
"""The collector's own thresholds, which a start by command had raised."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process works with, whether it serves, dispatches, or both. Belongs to one event loop once started."""

    settings: Settings
    form: Form
    store: Store
    keeper: Keeper
    clerk: Keeper
    """Writes what is not a visitor's: claims, outcomes, chores. The keeper itself where there is one writer only."""
    usher: Keeper | None
    """Counts what limits are shared with other machines; None where there are none."""
    ways: tuple[Way, ...]
    worker: Worker
    books: Bookkeeper
    fetcher: Fetcher
    keys: Keys

    async def keep(self, kept: Kept) -> str | None:
        """Put a message on disk and wake the dispatcher; return what stands for it (see Keep). Raises NotKept."""
        size = sum(len(value) for answer in kept.submission.answers for value in answer.values) + 1_000
        found = await self.keeper.run(submissions.keep, kept, size=size)
        self.worker.wake()
        return found

    async def find(self, form: str, key: Key) -> str | None:
        """Return the id of the message that a key stands for, None for none; raises KeyReused and NotKept."""

        def look() -> tuple[str, str] | None:
            with self.store.reading() as connection:
                return idempotency.fetch(connection, form, key, now=self.store.clock())

        identifier, digest = await asyncio.to_thread(look) or (None, key.digest)
        if digest != key.digest:
            raise KeyReused
        return identifier

    def everywhere(self) -> Everywhere | None:
        """Return what counts over all processes, None where each counts for itself."""
        if self.usher is None:
            return None
        usher = self.usher

        async def count(name: str, rate: Rate, number: int) -> float:
            return await usher.run(arrivals.count, Arrival(name, rate, self.store.clock(), number), size=1)

        return Everywhere(count)

    def find_addressee(self, submission_id: str) -> Addressee | None:
        """Return who got the confirmation of a message, None when that was erased; raises NotKept."""
        with self.store.reading() as connection:
            return suppressions.fetch_addressee(connection, submission_id)

    async def suppress(self, asking: Asking) -> Addressee | None:
        """Put on disk that who got a confirmation gets no other one; return who, as above. Raises NotKept."""
        return await self.keeper.run(suppressions.ask, asking, size=1)

    async def beat(self) -> None:
        """Prove that messages can be kept; raises NotKept."""
        await self.keeper.run(ways.beat, self.store.clock(), size=1)

    @asynccontextmanager
    async def running(self, *, dispatching: bool) -> AsyncIterator[None]:
        """Keep, and dispatch if asked to; on leaving, finish what is on the wire, then keep what waits, then close."""
        gc.collect()
        gc.set_threshold(*THRESHOLDS)
        gc.freeze()  # what a start makes stays; looking through it again and again took a seventh of the processor
        writers = [writer for writer in dict.fromkeys((self.keeper, self.clerk, self.usher)) if writer]
        for writer in writers:
            writer.start()
        self.books.start()
        if dispatching:
            self.worker.start()
        try:
            yield
        finally:
            if dispatching:
                await self.worker.stop()
            await self.books.stop()
            for writer in writers:
                await writer.close()
            await self.fetcher.close()
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
    keys = Keys(load_keys(settings))
    keeper = Keeper(store)
    # SQLite has one writer; elsewhere no visitor waits for another machine's claim.
    clerk = keeper.another() if store.is_shared else keeper
    usher = keeper.another() if store.is_shared else None
    ways_out = make_ways(settings)
    compose = _composer(settings, form, keys)
    fetcher = make_fetcher(settings)
    url = settings.ping_url.get_secret_value()
    ping = Ping(clerk, store, url=url, fetcher=fetcher, every=settings.ping_every) if url else None
    worker = Worker(
        store,
        keeper=clerk,
        dispatchers=[
            Dispatcher(way, keeper=clerk, compose=compose, lease=lease, clock=store.clock) for way in ways_out
        ],
        chores=Chores(
            clerk,
            make_alarms(settings, clerk, store=store, ways=ways_out, fetcher=fetcher),
            ping,
            Purge(clerk, store, retention=settings.retention),
            clock=store.clock,
        ),
        heirs=(tuple(way.name for way in ways_out), form.way),
    )
    books = Bookkeeper(store, clerk)
    return Parts(settings, form, store, keeper, clerk, usher, tuple(ways_out), worker, books, fetcher, keys)


def _composer(settings: Settings, form: Form, keys: Keys) -> Compose:
    """Return what composes a letter in hand, from the address of the way that it leaves by."""
    stationery = Stationery(partial(unsubscribing.link, in_ascii(settings.public_url), keys))
    forms = {way.name: as_sent_by(form, way) for way in settings.ways}

    def compose(claimed: Claimed) -> Letter:
        delivery, form = claimed.delivery, forms[claimed.delivery.way]
        preface = Preface(*claimed.preface) if claimed.preface else None
        if claimed.others:
            return stationery.digest(
                claimed.submissions, form, delivery_id=delivery.id, recipient=delivery.recipient, preface=preface
            )
        return stationery.compose(
            claimed.submission,
            form,
            delivery_id=delivery.id,
            purpose=delivery.purpose,
            recipient=delivery.recipient,
            preface=preface,
        )

    return compose


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
        store = engine.open_store(settings.database_url)
    except OSError as error:
        raise WrongSettings([f"DATABASE_URL: {error.filename} can't be opened: {error.strerror}."]) from error
    except NotKept as error:
        raise WrongSettings([f"DATABASE_URL: the database can't be used: {complaint(error)}"]) from error
    try:
        return store, look(store)
    except NotKept as error:
        raise WrongSettings([f"DATABASE_URL: {store.place} can't be used: {complaint(error)}"]) from error


def create_app(settings: Settings | None = None) -> ASGIApp:
    """Return the ASGI application for these settings, or for those of the environment. Raises WrongSettings."""
    parts = assemble(settings or load())
    settings, form = parts.settings, parts.form
    assets = Assets(settings.accent_color)
    widget = captcha_widget(settings)
    policy = content_policy(image_origins(settings), form.origins, widget.kind.sources if widget else {})
    stamps = Stamps(parts.keys, clock=parts.store.clock)
    pages = Pages(form, assets, widget=widget, policy=policy, stamp=stamps.renewed)
    answers = Answers(form, pages, public_url=settings.public_url)
    client_address = ClientAddress(settings.trusted_proxies)
    insiders = Insiders(settings.metrics_token.get_secret_value())
    health = Health(
        parts.beat,
        parts.books.survey,
        client_address=client_address,
        insiders=insiders,
        alarm_after=settings.alarm_after,
        clock=parts.store.clock,
    )
    front = Front(
        form=form,
        pages=pages,
        answers=answers,
        limiter=Limiter(Rate.parse(settings.rate_limit), everywhere=parts.everywhere()),
        client_address=client_address,
        intake=_intake(parts),
        keys=parts.keys,
        stamps=stamps,
        origins=known_origins(settings, form),
        clock=parts.store.clock,
    )
    shows_mail = settings.mails_to_a_folder and not settings.is_production
    site = Site(
        front,
        health,
        Metrics(parts.books, health, ways=[way.name for way in parts.ways], insiders=insiders, clock=parts.store.clock),
        assets,
        Gate(Rate.parse(settings.page_rate_limit), client_address),
        _unsubscribing(front, parts),
        Mailbox(settings.mail_folder, assets) if shows_mail else None,
    )
    return routes.make(
        site,
        lifespan=lambda _web: parts.running(dispatching=settings.dispatch),
        guards=make_guards(settings, form, answers, client_address),
    )


def _intake(parts: Parts) -> Intake:
    rates = (Rate.parse(parts.settings.form_rate_limit), Rate.parse(parts.settings.site_rate_limit))
    flood = Flood(*rates, everywhere=parts.everywhere())
    return Intake(parts.keep, parts.find, flood, make_witnesses(parts.settings, parts.fetcher))


def _unsubscribing(front: Front, parts: Parts) -> Unsubscribing:
    # By the more generous limit: mail programs press for many people, and the signature is the authority.
    limiter = Limiter(Rate.parse(parts.settings.page_rate_limit))
    ends = (parts.find_addressee, parts.suppress)
    return Unsubscribing(
        front.pages, front.answers, limiter, front.client_address, parts.keys, *ends, clock=parts.store.clock
    )


async def send_test_letter(settings: Settings) -> Outcome:
    """Send one letter to the first owner through the way out, past the store, and return what became of it."""
    way = settings.used_way
    form = replace(as_sent_by(contact_form(settings), way), owners=Owners(settings.recipients[:1]))
    sentence = "This is a test of Pillarbox: when you can read it, messages from your form reach you."
    answers = (Answer("subject", "Subject", ("Test letter",)), Answer("message", "Message", (sentence,)))
    submission = Submission(new_id(), form.slug, time.time(), form.language, answers)
    letter = Stationery().compose(
        submission, form, delivery_id=0, purpose=Purpose.NOTIFICATION, recipient=settings.recipients[0]
    )
    transport = make_transport(way)
    try:
        return await transport.send(replace(letter, id=f"test-{submission.id}"))
    finally:
        await transport.close()


async def examine(settings: Settings) -> list[Finding]:
    """Return what is well and what is not, step by step."""
    from pillarbox.doctor import mail, rounds  # noqa: PLC0415 - who serves has no use for them

    parts = assemble(settings)
    several = len(settings.ways) > 1

    def condition_of_the_store() -> condition.Condition:
        with parts.store.reading() as connection:
            return condition.look(connection)

    def as_examined(out: WayOut, way: Way) -> "mail.MailWay | rounds.Folder":
        if out.maildir is not None:
            return rounds.Folder(out.maildir, way.transport.check)
        return mail.MailWay(smtp_server(out), out.sender, settings.recipients[0], name=out.name if several else "")

    async with parts.running(dispatching=False):
        return await rounds.examine(
            rounds.Installation(
                sender=settings.sender,
                recipients=settings.recipients,
                ways=[as_examined(out, way) for out, way in zip(settings.ways, parts.ways, strict=True)],
                store=rounds.Store(
                    parts.store.place,
                    parts.beat,
                    condition_of_the_store,
                    path=getattr(parts.store, "path", None),
                    is_durable=settings.data_is_durable,
                    clock=parts.store.clock,
                    processes=settings.workers,
                ),
                public_url=settings.public_url,
                trusted_proxies=settings.trusted_proxies,
                name_server=settings.name_server,
                alarm_channels=len(settings.alarm_to),
                alarms_need_the_mail=any(way.tells is not None for way in parts.ways if way.name == parts.form.way),
            )
        )


async def rehearse_alarm(settings: Settings) -> list[tuple[str, str | None]]:
    """Tell a test to everybody who is told of trouble; return (channel, None or why it was not taken) for each."""
    ways_out, fetcher = make_ways(settings), make_fetcher(settings)
    try:
        channels = make_channels(settings, ways_out, fetcher)
        return await rehearse(channels, site=settings.site_name, now=time.time())
    finally:
        await fetcher.close()
        for way in ways_out:
            await way.transport.close()


def upgrade_store(settings: Settings) -> str:
    """Bring the schema up to date and say how it stood."""
    store, stood = _open_with(migrating.upgrade, settings)
    store.close()
    copied = "" if store.is_shared else "; a copy from before lies beside it"
    return {
        Schema.CURRENT: "The database was up to date already.",
        Schema.BEHIND: f"The database is up to date now{copied}.",
        Schema.NEWER: "A newer Pillarbox made this database; nothing was changed.",
    }[stood]
