"""Adapts schemathesis to Headwater beyond the OpenAPI document; loaded by SCHEMATHESIS_HOOKS."""

import schemathesis

# A longer poll would only lengthen the run: without events its answer is the same after a second.
LONGEST_POLL_S = 1

# As in the API that this one is compatible with, a larger page is answered with 500.
LARGEST_PAGE = 4096


def number(value):
    """The number in a header, or None where the node has to refuse the header."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


@schemathesis.hook
def before_call(context, case, kwargs):
    """No client appends during the run: a long poll lasts as long as it may, and a position beyond
    the end gets the 503 that is promised for it. Neither needs to be tried hundreds of times."""
    headers = case.headers or {}
    if (number(headers.get("ES-LongPoll")) or 0) > LONGEST_POLL_S:
        case.headers["ES-LongPoll"] = str(LONGEST_POLL_S)
    if (number(headers.get("ES-MinPosition")) or 0) > 0:
        case.headers["ES-MinPosition"] = "0"


@schemathesis.hook
def filter_case(context, case):
    """Leaves out cases that would show nothing. A page of more than 4096 events is refused with the
    only 500 that is documented, and without its administrator a node answers nothing but 401."""
    parameters = case.path_parameters or {}
    changes_admin = parameters.get("user") == "admin" and case.method.upper() != "GET"
    return not changes_admin and (number(parameters.get("count")) or 0) <= LARGEST_PAGE


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """Lines of JSON travel as they are."""
    return value if isinstance(value, (bytes, str)) else str(value)
