"""Hooks of .ci/schemathesis."""

import json

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps two rules that JSON Schema cannot express, or only in a form that no data can be generated for."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    case.body = digits(case.body)
    if isinstance(case.body, dict) and {"requiredServices", "optionalServices"} <= case.body.keys():
        # A service is in one list only.
        required = case.body["requiredServices"]
        case.body["optionalServices"] = [name for name in case.body["optionalServices"] if name not in required]


def digits(value):
    """Writes whole numbers in digits: the gateway refuses 9.0 for an integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: digits(member) for name, member in value.items()}
    if isinstance(value, list):
        return [digits(item) for item in value]
    return value


@schemathesis.deserializer("application/x-ndjson")
def summary(context, response):
    """Returns the last record of a stream."""
    return json.loads(response.content.splitlines()[-1])
