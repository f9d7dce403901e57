"""What no schema can say, for Schemathesis.

Nothing is excluded by its call: a refusal of a request that is good by the schema is excused only where the answer itself
names one of a few rules, each of which the document tells of in words.
"""

import json
import os
import re

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

EXCUSES = [
    # Opaque: only an earlier page knows one.
    r"`cursor` is not one that an earlier page gave",
    # 1.0 is an integer for JSON Schema; these APIs write integers without a fraction.
    r"invalid type: floating point `[-+0-9.e]+`, expected u(32|64)",
    # Only the owner of a key can make one.
    r"`csr_pem` is ",
    # What is an IPv6 address is more than a pattern can say.
    r"`endpoints\[\d+\]` is not `host:port`",
    # Needed of an account, and not of the admin.
    r"`current` is missing",
    r"the admin sets a password without `current`",
    # One value bounds another one.
    r"`min_size` is larger than `max_size`",
    r"`revision` must be larger than `base_revision`",
    r"`pieces_held` is \d+, of a file of \d+ pieces?",
    r"a delta has at most \d+ entries",
    # Bounds in bytes, and parts of a name that a pattern would not make clearer.
    r"a file name (of \d+ bytes is longer|has the part|begins with a letter and a colon)",
    r"a part of (a file name starts with `\.trueque`|\d+ bytes in a file name is longer)",
]
KNOWN = re.compile("|".join(EXCUSES))

LOGIN = json.loads(os.environ["TRUEQUE_LOGIN"])
CSR = os.environ["TRUEQUE_CSR"]


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if not isinstance(failure, RejectedPositiveData):
        return True
    return not KNOWN.search(response.json().get("detail", ""))


@schemathesis.hook
def map_body(context, body):
    """Where the parts have the form of good ones, real ones take their place: of nothing else would anything be heard."""
    change = CHANGES.get((context.operation.method, context.operation.path))
    return body | change(body) if change and isinstance(body, dict) else body


def login(body):
    if has_text(body, "csr_pem", "username", "password") and body["csr_pem"].startswith("-----BEGIN "):
        return endpoints(body) | {field: LOGIN[field] for field in ("csr_pem", "username", "password")}
    return endpoints(body)


def renew(body):
    wants_certificate = has_text(body, "csr_pem") and body["csr_pem"].startswith("-----BEGIN ")
    return endpoints(body) | ({"csr_pem": CSR} if wants_certificate else {})


def endpoints(body):
    given = body.get("endpoints")
    if not isinstance(given, list):
        return {}
    is_v6 = lambda one: isinstance(one, str) and re.match(r"\[[0-9A-Fa-f:.]+\]:", one)
    return {"endpoints": ["[::1]:" + one.rsplit(":", 1)[1] if is_v6(one) else one for one in given]}


def announce(body):
    changed = {}
    if has_numbers(body, "revision", "base_revision") and body["base_revision"] < body["revision"] + 1000:
        changed["revision"] = max(body["revision"], body["base_revision"] + 1)
    if isinstance(body.get("put"), list):
        fits = lambda put: put | {"pieces_held": min(put["pieces_held"], 1)}
        is_good = lambda put: isinstance(put, dict) and has_numbers(put, "pieces_held")
        changed["put"] = [fits(put) if is_good(put) else put for put in body["put"]]
    return changed


def share(body):
    return {"path": os.environ["TRUEQUE_SHARED"]} if has_text(body, "path") else {}


def offer(body):
    whole = has_text(body, "to", "content_id")
    return {"to": "holder", "content_id": os.environ["TRUEQUE_CONTENT"]} if whole else {}


def has_text(body, *fields):
    return all(isinstance(body.get(field), str) and body[field] for field in fields)


def has_numbers(body, *fields):
    return all(type(body.get(field)) is int for field in fields)


CHANGES = {
    ("post", "/v1/sessions"): login,
    ("put", "/v1/sessions/current"): renew,
    ("post", "/v1/catalog"): announce,
    ("post", "/v1/files"): share,
    ("post", "/v1/offers"): offer,
}
