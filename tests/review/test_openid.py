"""Logging in by OpenID Connect, against a provider that others made and the OpenID Foundation certified."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pytest

from mammoscope.network.openid import OpenIDError, OpenIDProvider
from mammoscope.review import DatasetStudies, ReadingRoom, ReviewService, Role
from mammoscope.review.accounts import ProviderLogin
from mammoscope.settings.schema import OpenIDSettings

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent / "openid"
SECRET = "a secret: with+marks/"


@dataclass(frozen=True)
class Site:
    """A provider, and a reading room that it knows."""

    issuer: str
    room: ReadingRoom
    url: str

    @property
    def back(self) -> str:
        return f"{self.url}/login/openid/back"


def installed(npm: str) -> Path:
    """The provider with what it needs, fetched from the registry that npm knows, once."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("MAMMOSCOPE_VIEWERS") or Path(home, "mammoscope-viewers"))
    folder = cache / f"openid-{hashlib.sha256((HERE / 'package-lock.json').read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as name:
            for part in ("package.json", "package-lock.json"):
                shutil.copy(HERE / part, name)
            quiet = ("--no-audit", "--no-fund", "--silent", "--ignore-scripts")
            subprocess.run([npm, "ci", *quiet], cwd=name, check=True, timeout=600)
            Path(name).rename(folder)
            Path(name).mkdir()
    return folder


@pytest.fixture(scope="module")
def site(
    small_dataset: tuple[Path, Path], free_ports: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node.js and npm are not installed")
    folder = tmp_path_factory.mktemp("provider")
    (folder / "node_modules").symlink_to(installed(npm) / "node_modules")
    shutil.copy(HERE / "provider.mjs", folder)
    at, port = free_ports(2)
    issuer = f"http://127.0.0.1:{at}"
    settings = OpenIDSettings(
        issuer=issuer,
        client_id="mammoscope",
        client_secret=SECRET,
        name="the clinic's login",
        scopes=("profile", "groups"),
        roles={"it": "admin", "radiologists": "reader"},
    )
    provider = OpenIDProvider(issuer, "mammoscope", SECRET, scopes=settings.scopes)
    room = ReadingRoom(DatasetStudies(*small_dataset), folder / "review", login=ProviderLogin(provider, settings))
    command = [node, "provider.mjs", str(at), f"http://127.0.0.1:{port}/login/openid/back"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if b"listening" in line:
                    break
            with ReviewService(room, port=port) as service:
                yield Site(issuer, room, service.url)
        finally:
            process.kill()


def browse(client: httpx.Client, url: str, name: str, back: str) -> str:
    """Go through the provider's own pages as somebody; give where it sends the browser back to."""
    for _ in range(20):
        answer = client.get(url)
        while answer.is_redirect:
            url = urljoin(url, answer.headers["location"])
            if url.startswith(back):
                return url
            answer = client.get(url)
        [action] = re.findall(r'action="([^"]+)"', answer.text)
        form = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]+)"', answer.text))
        answer = client.post(urljoin(url, action), data={**form, "login": name, "password": "any"})
        assert answer.is_redirect, answer.text
        url = urljoin(url, answer.headers["location"])
    raise AssertionError("the provider's pages do not end")


def come_in(site: Site, name: str, to: str = "/figures") -> tuple[httpx.Client, httpx.Response, str]:
    client = httpx.Client(timeout=30)
    page = client.get(f"{site.url}/login", params={"to": to}).text
    assert "Log in by the clinic&#39;s login" in page
    assert 'name="password"' not in page  # nobody has one here
    [link] = re.findall(r'href="(/login/openid[^"]+)"', page)
    back = browse(client, site.url + link, name, site.back)
    return client, client.get(back), back


def test_who_the_provider_knows_comes_in_with_the_role_of_a_group(site: Site):
    client, answer, back = come_in(site, "anna")
    assert (answer.status_code, answer.headers["location"]) == (303, "/figures")
    page = client.get(f"{site.url}/figures")
    assert "anna MD (reader)" in page.text
    assert client.get(f"{site.url}/audit").status_code == 403
    known = {user.name: user for user in site.room.accounts.users()}
    assert (known["anna MD"].issuer, known["anna MD"].has_password) == (site.issuer, False)
    assert ("LoggedIn", "anna MD") in [(line["event"], line["who"]) for line in site.room.audit_lines()]
    client.headers["X-Form-Token"] = page.text.partition('name="form-token" content="')[2].partition('"')[0]
    assert client.post(f"{site.url}/api/studies/1/read", json={"state": "deferred"}).status_code == 200
    # What the provider said counts once, and in the browser where it was asked for only.
    for other in (client, httpx.Client()):
        refused = other.get(back)
        assert refused.status_code == 403
        assert "not begun here" in refused.text
    site.room.accounts.set_active("anna MD", False)
    assert client.get(f"{site.url}/api/worklist").status_code == 401  # a session ends as any other
    _, refused, _ = come_in(site, "anna")
    assert "account anna MD is disabled" in refused.text
    site.room.accounts.set_active("anna MD", True)

    olga, _, _ = come_in(site, "olga", to="//evil.example")
    assert "olga MD (admin)" in olga.get(f"{site.url}/audit").text

    _, refused, _ = come_in(site, "mallory")
    assert refused.status_code == 403
    assert "of your groups (visitors) none stands for a role here" in refused.text
    assert "mallory MD" not in {user.name for user in site.room.accounts.users()}
    assert httpx.post(f"{site.url}/login", data={"name": "Eve"}).status_code == 401  # nobody comes in by a name


def test_an_account_with_a_password_stays_a_way_in_and_is_nobody_elses(site: Site):
    site.room.accounts.add("sven MD", "correct horse battery", Role.ADMIN)
    page = httpx.get(f"{site.url}/login").text
    assert 'name="password"' in page
    assert "Log in by" in page
    form = {"name": "sven MD", "password": "correct horse battery", "to": "/worklist"}
    assert httpx.post(f"{site.url}/login", data=form).status_code == 303
    with pytest.raises(Exception, match="somebody else is called sven MD"):
        site.room.accounts.enter_by_provider(site.issuer, "sven", "sven, MD", Role.READER)
    site.room.accounts.set_active("sven MD", False)


def answered(provider: OpenIDProvider, site: Site) -> tuple:
    attempt = provider.begin(site.back)
    with httpx.Client(timeout=30) as client:
        return attempt, dict(parse_qsl(urlsplit(browse(client, attempt.url, "anna", site.back)).query))


def test_an_answer_that_is_not_ours_is_refused_in_a_sentence(site: Site):
    provider = OpenIDProvider(site.issuer, "mammoscope", SECRET)
    attempt, answer = answered(provider, site)
    for changed, given, why in (
        (attempt, {**answer, "state": "another"}, "belongs to another login"),
        (attempt, {**answer, "iss": "https://evil.example"}, "from another login provider"),
        (attempt, {"state": attempt.state, "error": "access_denied", "iss": site.issuer}, "refused .access_denied"),
        (replace(attempt, verifier="x" * 64), answer, "refused .grant request is invalid"),
    ):
        with pytest.raises(OpenIDError, match=why):
            provider.finish(changed, given)
    attempt, answer = answered(provider, site)
    with pytest.raises(OpenIDError, match=r"cannot be trusted .*nonce"):
        provider.finish(replace(attempt, nonce="another"), answer)
    wrong = OpenIDProvider(site.issuer, "mammoscope", "wrong")
    with pytest.raises(OpenIDError, match=r"refused .client authentication failed"):
        wrong.finish(*answered(wrong, site))
    public = OpenIDProvider(site.issuer, "public")
    assert public.finish(*answered(public, site))["sub"] == "anna"


def test_a_provider_that_is_not_there_or_calls_itself_otherwise_is_told(site: Site, free_ports: Callable):
    [port] = free_ports(1)
    for issuer, why in (
        (f"http://127.0.0.1:{port}", r"does not answer .*refused"),
        (f"{site.issuer}/", "calls itself http"),
        (site.url, "refused|does not answer in JSON"),
    ):
        began = time.monotonic()
        with pytest.raises(OpenIDError, match=why):
            OpenIDProvider(issuer, "mammoscope", SECRET).begin(site.back)
        assert time.monotonic() - began < 30
