"""What the settings say, as the parts take it: the form, the ways out, the channels, the guards, the log's style."""

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote, urlsplit

from starlette.middleware import Middleware

from pillarbox import channels
from pillarbox.alarms import Alarms, Wording
from pillarbox.channels import Channel, Outlet
from pillarbox.core import captcha
from pillarbox.core.alarm import Bounds
from pillarbox.core.delivery import Schedule
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners
from pillarbox.core.mime import wire_address
from pillarbox.dispatch import Transport, Way
from pillarbox.fetching import Fetcher
from pillarbox.intake import Witness
from pillarbox.settings import Settings, WrongSettings, where
from pillarbox.settings.transports import WayOut
from pillarbox.store.engine import Store
from pillarbox.store.keeper import Keeper
from pillarbox.telemetry import LogStyle, road
from pillarbox.transports.maildir import MaildirTransport
from pillarbox.transports.smtp import SmtpServer, SmtpTransport
from pillarbox.web.answering import Answers
from pillarbox.web.bodies import BodiesInHand
from pillarbox.web.guards import ClientAddress, Cors, KnownHosts, Peer, SecurityHeaders
from pillarbox.witnesses.captcha import Captcha

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def log_style(settings: Settings) -> LogStyle:
    """Return how these settings want the log."""
    default = "json" if settings.is_production else "text"
    return LogStyle(settings.log_level, settings.log_format or default, settings.log_file)


def contact_form(settings: Settings) -> Form:
    """Return the default form that these settings describe."""
    own_origin = origin(settings.public_url)
    named = tuple(one for one in settings.cors_origins or () if one != "*")
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
        way=settings.way,
        origins=(*((own_origin,) if own_origin else ()), *named),
    )


def as_sent_by(form: Form, way: WayOut) -> Form:
    """Return the form as its letters leave by this way: from its address, under the Message-IDs of any other way."""
    domain = form.message_domain or form.sender.rpartition("@")[2]
    return replace(form, sender=way.sender, message_domain=domain)


def origin(url: str) -> str:
    """Return the origin of a web address; an empty text for an empty one."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if url else ""


def in_ascii(url: str) -> str:
    """Return a web address as headers take it (RFC 3987, 3.1); raises ValueError for a host that has no such name."""
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else wire_address(f"x@{parts.hostname}").rpartition("@")[2]
    port = f":{parts.port}" if parts.port and not parts.netloc.isascii() else ""
    return f"{parts.scheme}://{host}{port}{quote(parts.path, safe=_IN_A_PATH)}" if url else ""


_IN_A_PATH = "/%:@!$&'()*+,;=~-._"


def make_transport(way: WayOut) -> Transport:
    """Return what takes letters out by this way."""
    if way.maildir is not None:
        return MaildirTransport(way.maildir)
    return SmtpTransport(smtp_server(way))


def smtp_server(way: WayOut) -> SmtpServer:
    """Return the mail server of a way that has one."""
    return SmtpServer(
        host=way.server,
        port=way.port,
        security=way.security,
        username=way.username,
        password=way.password.get_secret_value(),
        ca_file=way.ca_file,
        connections=way.connections,
        connect_seconds=way.connect_timeout,
        command_seconds=way.timeout,
        dot_seconds=way.dot_timeout,
    )


def make_ways(settings: Settings) -> list[Way]:
    """Return every way out, the form's own among them. Raises WrongSettings as `make_channels` does.

    Where each channel needs the very way that is shut, its first letter afterwards says what happened.
    """
    ways = [
        Way(
            name=way.name,
            transport=make_transport(way),
            connections=way.connections,
            schedule=Schedule(settings.retry_schedule, settings.probe_interval),
            poll=settings.polls_every,
            confirmations_per_hour=settings.confirmations_per_hour,
            confirmations_per_client=settings.confirmations_per_client,
            budget=way.budget,
            fallback=way.fallback,
            digest_above=settings.digest_above,
        )
        for way in settings.ways
    ]
    needed = [channel.transport for channel in make_channels(settings, ways, make_fetcher(settings))]
    return [
        replace(way, tells=settings.alarm_after if all(name == way.name for name in needed) else None) for way in ways
    ]


def make_fetcher(settings: Settings) -> Fetcher:
    """Return what asks other servers by HTTP."""
    return Fetcher(private=settings.private_hosts)


def captcha_widget(settings: Settings) -> captcha.Widget | None:
    """Return the captcha as the page shows it; None without one."""
    kind = captcha.KINDS.get(settings.captcha)
    return captcha.Widget(kind, settings.captcha_site_key) if kind else None


def make_witnesses(settings: Settings, fetcher: Fetcher) -> tuple[Witness, ...]:
    """Return who is asked about each message."""
    kind = captcha.KINDS.get(settings.captcha)
    if kind is None:
        return ()
    secret, hosts = settings.captcha_secret.get_secret_value(), _captcha_hosts(settings)
    if secret in kind.test_secrets:
        road.warning("captcha_test_key", meaning="CAPTCHA_SECRET is a key for tests: it tells people from nobody")
        hosts = frozenset()  # its verdicts name a host of the provider's
    url = settings.captcha_verify_url or kind.verify_url
    return (Captcha(captcha.Account(kind, secret, url, hosts, settings.captcha_score), fetcher),)


def _captcha_hosts(settings: Settings) -> frozenset[str]:
    """Return where a captcha may have been solved; none for anywhere."""
    origins = (settings.public_url, *(settings.cors_origins or ()))
    named = settings.captcha_hostnames or [urlsplit(one).hostname or "*" for one in origins if one]
    return frozenset() if "*" in named else frozenset(map(captcha.host_name, named))


def make_channels(settings: Settings, ways: Sequence[Way], fetcher: Fetcher) -> list[Channel]:
    """Return who is told of trouble. Raises WrongSettings for an address that can't be used."""
    senders = {way.name: way.sender for way in settings.ways}
    outlets = {way.name: Outlet(way.transport.send, senders[way.name]) for way in ways}
    try:
        return [
            channels.make(url.get_secret_value(), fetcher=fetcher, outlets=outlets, site_name=settings.site_name)
            for url in settings.alarm_to
        ]
    except ValueError as error:
        raise WrongSettings([f"ALARM_TO ({where('ALARM_TO')}) is not right: {error}."]) from None


def make_alarms(settings: Settings, keeper: Keeper, *, store: Store, ways: Sequence[Way], fetcher: Fetcher) -> Alarms:
    """Return what looks for trouble and tells of it. Raises WrongSettings for a channel that can't be used."""
    return Alarms(
        keeper,
        store,
        channels=make_channels(settings, ways, fetcher),
        bounds=Bounds(settings.alarm_after, settings.quiet_after, (contact_form(settings).slug,)),
        wording=Wording(site=settings.site_name, hosts={way.name: way.server for way in settings.ways}),
    )


def image_origins(settings: Settings) -> tuple[str, ...]:
    """Return the origins that pages show pictures from."""
    logo = origin(settings.logo_url)
    return (logo,) if logo else ()


def known_origins(settings: Settings, form: Form) -> frozenset[str]:
    """Return the origins that visitors come from; empty where nobody named them one by one."""
    named = settings.cors_origins or ()
    return frozenset(one.lower() for one in form.origins) if named and "*" not in named else frozenset()


def make_guards(settings: Settings, form: Form, answers: Answers, client_address: ClientAddress) -> list[Middleware]:
    """Return what stands before every route, the outermost first."""
    is_https = settings.public_url.lower().startswith("https:")
    guards = [
        Middleware(Peer),
        Middleware(BodiesInHand, client_address=client_address),
        Middleware(SecurityHeaders, image_origins=image_origins(settings), form_targets=form.origins, https=is_https),
    ]
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
