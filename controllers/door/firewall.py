"""The web application firewall of a door: ModSecurity 2.9 with the OWASP Core Rule Set 3.3, paranoia level 1.

Directives: ModSecurity Reference Manual (v2.x). Rule files: coreruleset 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable

# What people write to an assistant is text, not code that anything runs: it may hold SQL, HTML or shell commands. The
# names are those of our contract's reference and of OpenAI's API, as ModSecurity spells fields of JSON.
CHAT_FIELDS = (
    "message",
    "prompt",
    "question",
    "input",
    "history.history.question",
    "history.history.answer",
    "history.history.content",
    "messages.messages.content",
    "messages.messages.content.content.text",
)
_RULES = "/usr/share/modsecurity-crs/rules"
# Left out: profiles of products that nobody runs here (903), reputation and denial of service (910, 912), which count
# in files under a lock that all processes share, and mod_qos does the latter; responses (950-980), for answers stream.
_FILES = (
    "901-INITIALIZATION",
    "905-COMMON-EXCEPTIONS",
    "911-METHOD-ENFORCEMENT",
    "913-SCANNER-DETECTION",
    "920-PROTOCOL-ENFORCEMENT",
    "921-PROTOCOL-ATTACK",
    "922-MULTIPART-ATTACK",
    "930-APPLICATION-ATTACK-LFI",
    "931-APPLICATION-ATTACK-RFI",
    "932-APPLICATION-ATTACK-RCE",
    "933-APPLICATION-ATTACK-PHP",
    "934-APPLICATION-ATTACK-NODEJS",
    "941-APPLICATION-ATTACK-XSS",
    "942-APPLICATION-ATTACK-SQLI",
    "943-APPLICATION-ATTACK-SESSION-FIXATION",
    "944-APPLICATION-ATTACK-JAVA",
    "949-BLOCKING-EVALUATION",
)
# What rules of the set look for in arguments, by their tags.
_ATTACKS = ("injection-nodejs", "injection-php", "lfi", "rce", "rfi", "sqli", "xss")
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE")
_TYPES = " ".join(
    f"|{kind}|"
    for kind in (
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json",
        "application/xml",
        "text/xml",
        "application/soap+xml",
    )
)
_COLLECTIONS = 901321
_IN_MEMORY_BYTES = 2**20
_FIRST, _LAST = 911000, 948999


def directives(body_bytes: int, exclusions: Iterable[int], runtime: str) -> list[str]:
    """The lines that load the firewall; ``runtime`` is the folder that it may write to.

    Raises ValueError for an exclusion that is no rule that looks for attacks.
    """
    unwanted = sorted(set(exclusions))
    if wrong := [number for number in unwanted if not _FIRST <= number <= _LAST]:
        raise ValueError(f"exclusions must be ids of detection rules, from {_FIRST} to {_LAST}; {wrong[0]} is none")
    chat = ",".join(f"ARGS_GET:{field}" for field in CHAT_FIELDS)
    return [
        "SecRuleEngine On",
        "SecRequestBodyAccess On",
        f"SecRequestBodyLimit {body_bytes}",
        f"SecRequestBodyNoFilesLimit {body_bytes}",
        f"SecRequestBodyInMemoryLimit {min(body_bytes, _IN_MEMORY_BYTES)}",
        "SecRequestBodyLimitAction Reject",
        "SecRequestBodyJsonDepthLimit 64",
        "SecArgumentsLimit 4000",
        "SecPcreMatchLimit 500000",
        "SecPcreMatchLimitRecursion 500000",
        "SecResponseBodyAccess Off",
        # The audit log holds what people wrote.
        "SecAuditEngine Off",
        f"SecTmpDir {runtime}",
        f"SecDataDir {runtime}",
        "SecDefaultAction phase:1,log,noauditlog,pass",
        "SecDefaultAction phase:2,log,noauditlog,pass",
        _processor(1001, "^application/json", "JSON"),
        _processor(1002, "^(?:application(?:/soap[+]|/)|text/)xml", "XML"),
        'SecRule REQBODY_ERROR "!@eq 0" "id:1003,phase:2,t:none,log,deny,status:400"',
        'SecRule MULTIPART_STRICT_ERROR "!@eq 0" "id:1004,phase:2,t:none,log,deny,status:400"',
        # No rule of the set looks for a way out of a folder in the name of an uploaded file.
        'SecRule FILES "@rx (?:^|[/\\x5c])[.][.](?:[/\\x5c]|$)" "id:1008,phase:2,t:none,log,deny,status:403"',
        # What says nothing of its type is read by no processor, and some assistants would take it for JSON.
        'SecRule &REQUEST_HEADERS:Content-Type "@eq 0" "id:1006,phase:1,t:none,log,deny,status:403,chain"',
        'SecRule REQUEST_HEADERS:Content-Length|REQUEST_HEADERS:Transfer-Encoding "!@rx ^0*$" "t:none"',
        'SecRule TX:/^MSC_/ "!@streq 0" "id:1005,phase:2,t:none,log,deny,status:400"',
        'SecAction "id:900990,phase:1,nolog,pass,t:none,setvar:tx.crs_setup_version=334"',
        # The rule set's own list has types that nothing here reads.
        f"SecAction \"id:900220,phase:1,nolog,pass,t:none,setvar:'tx.allowed_request_content_type={_TYPES}'\"",
        # Without these the rule set allows GET, HEAD, POST and OPTIONS only.
        f"SecAction \"id:900200,phase:1,nolog,pass,t:none,setvar:'tx.allowed_methods={' '.join(METHODS)}'\"",
        *(f"Include {_RULES}/REQUEST-{name}.conf" for name in _FILES),
        f"SecRuleRemoveById {_COLLECTIONS}",
        *(f'SecRuleUpdateTargetByTag "OWASP_CRS" "!ARGS:{field}"' for field in CHAT_FIELDS),
        # The session cookie is a key of its own that no assistant sees; the rules took a millisecond over it.
        'SecRuleUpdateTargetByTag "OWASP_CRS" "!REQUEST_COOKIES:__Host-door"',
        # In a link the same names are no chat: somebody else may have written it.
        *(f'SecRuleUpdateTargetByTag "attack-{attack}" "{chat}"' for attack in _ATTACKS),
        *(f"SecRuleRemoveById {number}" for number in unwanted),
    ]


def _processor(number: int, types: str, name: str) -> str:
    actions = f"id:{number},phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor={name}"
    return f'SecRule REQUEST_HEADERS:Content-Type "@rx {types}" "{actions}"'
