"""A pydantic model against a table of the file, its complaints turned into our own words.

A model says in each field's `description` what it expects, as a phrase: "a whole number from 1 to 65535".
Where a rule wants a sentence of its own, its validator raises `wrong(sentence)`.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from host_tools.userfile.problems import KeyPath, Problem, describe, did_you_mean, kind_of, problem

Model = TypeVar("Model", bound=BaseModel)

_OURS = "limpet"


def wrong(sentence: str) -> PydanticCustomError:
    """For validators: the problem in a sentence of its own, instead of "expected …, found …"."""
    return PydanticCustomError(_OURS, "{sentence}", {"sentence": sentence})


def check_table(
    model: type[Model], table: object, path: KeyPath = (), *, secret: Collection[str] = ()
) -> tuple[Model | None, list[Problem]]:
    """The table at `path` as a model, or else all its problems.

    What stands below the keys named in `secret` is never quoted in a problem's text.
    """
    if not isinstance(table, Mapping):
        return None, [not_a_table(path, table)]
    checked, details = _validated(model, table)
    remedies = {
        each["loc"]: did_you_mean(str(each["loc"][-1]), _keys(_owner(model, each["loc"])))
        for each in details
        if each["type"] == "extra_forbidden"
    }
    # A key that is misspelt is not missing as well.
    misspelt = {(loc[:-1], remedy) for loc, remedy in remedies.items()}
    return checked, [
        _problem(model, each, path, remedies, secret)
        for each in details
        if (each["loc"][:-1], f"Did you mean '{each['loc'][-1]}'?") not in misspelt
    ]


def not_a_table(path: KeyPath, value: object) -> Problem:
    """For a value where a table should be. It is not quoted: it may be a secret that went astray."""
    return problem(path, f"expected a table, found {kind_of(value)}.")


def salvage(model: type[Model], table: Mapping[str, Any]) -> Model:
    """What is right in a table with problems, so that it can be checked against others all the same.

    A field is absent, and its default with it, when its key is wrong, missing, or perhaps misspelt.
    """
    _, details = _validated(model, table)
    doubtful = {str(each["loc"][0]) for each in details}
    for key in doubtful - model.model_fields.keys():
        doubtful |= {name for name in model.model_fields if did_you_mean(key, [name]).startswith("Did")}
    right = {
        name: TypeAdapter(field.rebuild_annotation()).validate_python(table[name], strict=True)
        for name, field in model.model_fields.items()
        if name in table and name not in doubtful
    }
    salvaged = model.model_construct(**right)
    for name in doubtful & vars(salvaged).keys():
        del vars(salvaged)[name]
    return salvaged


def _validated(model: type[Model], table: Mapping[str, Any]) -> tuple[Model | None, list[ErrorDetails]]:
    try:
        return model.model_validate(table), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _problem(
    model: type[BaseModel],
    detail: ErrorDetails,
    path: KeyPath,
    remedies: Mapping[KeyPath, str],
    secret: Collection[str],
) -> Problem:
    loc = detail["loc"]
    where = (*path, *loc)
    if loc in remedies:
        return problem(where, f"unknown key. {remedies[loc]}")
    if detail["type"] == "missing":
        return Problem(where, f"this key is missing. Write {_expected(model, loc)}.", at=where[:-1])
    if detail["type"] == _OURS:
        return problem(where, str(detail["ctx"]["sentence"]))
    found = kind_of(detail["input"]) if loc[0] in secret else describe(detail["input"])
    return problem(where, f"expected {_expected(model, loc)}, found {found}.")


def _keys(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)


def _owner(model: type[BaseModel], loc: KeyPath) -> type[BaseModel]:
    """The model of the table in which the key at `loc` stands."""
    for part in loc[:-1]:
        if isinstance(part, str):
            model = _model_within(model.model_fields[part].annotation) or model
    return model


def _expected(model: type[BaseModel], loc: KeyPath) -> str:
    """What the field at `loc` expects; an element of a list expects what its list says of it."""
    named = [part for part in loc if isinstance(part, str)]
    field: FieldInfo = _owner(model, tuple(named)).model_fields[named[-1]]
    if field.description is None:
        raise LookupError(f"{named[-1]} does not describe what it expects")
    if isinstance(loc[-1], int) and _model_within(field.annotation):
        return "a table"
    return field.description


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_within, get_args(annotation))), None)
