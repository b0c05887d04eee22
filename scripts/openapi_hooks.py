"""What schemathesis has to know of Headwater beyond the OpenAPI document; loaded through SCHEMATHESIS_HOOKS."""

import schemathesis

# More would only make the run longer: an answer to a long poll without events is the same after one second.
LONGEST_POLL_S = 1

# As in the API that this one is compatible with, more is answered with 500.
LARGEST_PAGE = 4096


def number(value):
    """What a header says, or nothing if it is no number: that is for the node to refuse."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


@schemathesis.hook
def before_call(context, case, kwargs):
    """Nobody appends while the run waits: a long poll lasts as long as it may, and a position that is not there yet is answered with the 503 that
    is promised for it. Neither needs to be tried hundreds of times."""
    headers = case.headers or {}
    if (number(headers.get("ES-LongPoll")) or 0) > LONGEST_POLL_S:
        case.headers["ES-LongPoll"] = str(LONGEST_POLL_S)
    if (number(headers.get("ES-MinPosition")) or 0) > 0:
        case.headers["ES-MinPosition"] = "0"


@schemathesis.hook
def filter_case(context, case):
    """Leaves out what would say nothing: a page of more than 4096 events is refused with 500, which is documented and the only 500 there is;
    and without its administrator a node only says 401."""
    parameters = case.path_parameters or {}
    changes_admin = parameters.get("user") == "admin" and case.method.upper() != "GET"
    return not changes_admin and (number(parameters.get("count")) or 0) <= LARGEST_PAGE
