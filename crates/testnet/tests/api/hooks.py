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
CSR = {"/v1/sessions": LOGIN["csr_pem"], "/v1/sessions/current": os.environ["TRUEQUE_CSR"]}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if not isinstance(failure, RejectedPositiveData):
        return True
    return not KNOWN.search(response.json().get("detail", ""))


@schemathesis.hook
def map_body(context, body):
    """Where a request for a certificate, a path or an offer has the form of one, a real one takes its place."""
    path = context.operation.path
    if not isinstance(body, dict):
        return body
    if path in CSR and str(body.get("csr_pem")).startswith("-----BEGIN "):
        body = body | {"csr_pem": CSR[path]}
    if (context.operation.method, path) == ("post", "/v1/files") and has_text(body, "path"):
        body = body | {"path": os.environ["TRUEQUE_SHARED"]}
    if path == "/v1/offers" and has_text(body, "to") and has_text(body, "content_id"):
        body = body | {"to": "holder", "content_id": os.environ["TRUEQUE_CONTENT"]}
    return body


def has_text(body, field):
    return isinstance(body.get(field), str) and body[field] != ""
