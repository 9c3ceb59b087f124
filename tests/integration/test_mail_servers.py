"""What the operator finds out of a zone's mail server, each on a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from domicile.controllers.realm.mail import Mail, MailAccount, MailAccountError
from domicile.controllers.realm.mailservers import FAULT_SECONDS, LOGIN_REFUSED, LOOK_SECONDS, Fault, MailServers
from domicile.controllers.realm.refusals import REFUSED_SECONDS
from domicile.controllers.realm.server import load_mail
from tests.integration.apiserver import Authority, free_port
from tests.integration.mail_server import PASSWORD, USER, MailBoxes, mail_boxes

pytestmark = pytest.mark.asyncio


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def fault(mail: Mail, authority: Authority, servers: MailServers | None = None) -> Fault | None:
    return await (servers or MailServers()).fault(mail, (authority.folder / "ca.crt").read_text())


def reason(found: Fault | None) -> str | None:
    return found.reason if found else None


def other(boxes: MailBoxes, **changes: object) -> Mail:
    return Mail(boxes.server.model_copy(update=changes), boxes.mail.account)


async def test_a_server_that_takes_login_and_sender_is_fine_and_gets_no_mail(authority: Authority) -> None:
    async with mail_boxes(authority) as boxes:
        assert await fault(boxes.mail, authority) is None
        assert boxes.logins == 1


async def test_each_fault_of_a_server_is_named(authority: Authority) -> None:
    async with mail_boxes(authority) as boxes, mail_boxes(authority, tls=False) as plain:
        wrong = Mail(boxes.server, MailAccount(user=USER, password="wrong"))
        found = await fault(wrong, authority)
        assert reason(found) == LOGIN_REFUSED
        assert found is not None
        assert "relay.mail.json" in found.message
        assert reason(await fault(other(boxes, sender="somebody@eu.example"), authority)) == "MailSenderRefused"
        assert reason(await fault(Mail(boxes.server), authority)) == "MailSenderRefused"
        found = await fault(plain.mail, authority)
        assert reason(found) == "MailServerWithoutTls"
        assert found is not None
        assert "mostly 465" in found.message
        assert plain.logins == 0
        assert reason(await fault(other(boxes, port=free_port()), authority)) == "MailServerUnreachable"
        assert reason(await fault(other(boxes, host="nowhere.invalid"), authority)) == "MailServerUnreachable"


async def test_a_server_without_a_login_is_named(authority: Authority) -> None:
    async with mail_boxes(authority, login=False) as boxes:
        assert reason(await fault(boxes.mail, authority)) == "MailLoginNotOffered"
        assert await fault(Mail(boxes.server), authority) is None


async def test_a_certificate_for_another_name_or_of_strangers_is_refused(authority: Authority, tmp_path: Path) -> None:
    async with mail_boxes(authority, "127.0.0.2") as boxes:
        assert reason(await fault(boxes.mail, authority)) == "MailCertificateRefused"
    (tmp_path / "strangers").mkdir()
    async with mail_boxes(authority) as boxes:
        assert reason(await fault(boxes.mail, Authority(tmp_path / "strangers"))) == "MailCertificateRefused"
        assert boxes.logins == 0


async def test_a_password_is_tried_once_until_it_changes_or_an_hour_is_over(authority: Authority) -> None:
    now = 0.0
    servers = MailServers(lambda: now)
    async with mail_boxes(authority) as boxes:
        before = boxes.mail
        boxes.password = "Another-One-43!"
        for moment in (0.0, FAULT_SECONDS, REFUSED_SECONDS - 1):
            now = moment
            assert reason(await fault(before, authority, servers)) == LOGIN_REFUSED
        assert boxes.logins == 1
        assert await fault(boxes.mail, authority, servers) is None
        now = REFUSED_SECONDS
        assert reason(await fault(before, authority, servers)) == LOGIN_REFUSED
        assert boxes.logins == 3


async def test_a_good_answer_counts_for_five_minutes_for_all_tenants(authority: Authority) -> None:
    now = 0.0
    servers = MailServers(lambda: now)
    async with mail_boxes(authority) as boxes:
        for moment, logins in ((0.0, 1), (LOOK_SECONDS - 1, 1), (LOOK_SECONDS, 2)):
            now = moment
            assert await fault(boxes.mail, authority, servers) is None
            assert boxes.logins == logins


async def test_an_account_that_is_named_must_be_in_the_folder(tmp_path: Path) -> None:
    boxes = MailBoxes("localhost", 465)
    for content in (None, "{}", '{"user": "relay", "password": ""}', '{"user": "relay", "password": "Schlüssel"}'):
        if content is not None:
            (tmp_path / "relay.mail.json").write_text(content)
        with pytest.raises(MailAccountError, match=r"relay\.mail\.json with user and password"):
            load_mail(tmp_path, boxes.server)
    (tmp_path / "relay.mail.json").write_text(f'{{"user": "{USER}", "password": "{PASSWORD}"}}')
    assert load_mail(tmp_path, boxes.server) == boxes.mail
    nobody = boxes.server.model_copy(update={"account": None})
    assert load_mail(tmp_path, nobody) == Mail(nobody)
