"""Interpret the pickle of a `.pth` archive opcode by opcode, without executing anything in it.

A pickle is a program. Here it can build dicts, lists, tuples, numbers and strings, and tensors over the storages of the
archive; whatever else it asks for is refused by name.
"""

import math
import pickletools
import struct
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitq.errors import DataError
from bitq.interop.pth_archive import MOST_REBUILT, Archive

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle asks for; it is compared, never called."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class _Storage:
    """The numbers behind tensors."""

    values: Tensor


class _Arguments(tuple[Any, ...]):
    """A tuple that holds a name or a storage, allowed in calls but not in the result."""


_INTERNAL = (_Name, _Storage, _Arguments)
_MARK = object()
_REBUILD = _Name("torch._utils", "_rebuild_tensor_v2")
_PARAMETER = _Name("torch._utils", "_rebuild_parameter")
_ORDERED = _Name("collections", "OrderedDict")


@dataclass
class Program:
    """An interpreter of the opcodes of pickle that only build data."""

    path: Path
    archive: Archive
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, _Storage] = field(default_factory=dict)
    rebuilt: int = 0  # bytes of all tensors

    def run(self) -> Any:
        """Build the value of the pickle."""
        try:
            for opcode, argument, _ in pickletools.genops(self.archive.pickle()):
                if opcode.name == "STOP":
                    return self._taken(self._pop())
                self._step(opcode.name, argument)
        except DataError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError, RuntimeError) as error:
            raise DataError(f"{self.path}: its data.pkl is damaged ({error}); get the file again.") from error
        raise DataError(f"{self.path}: its data.pkl ends before it is complete; get the file again.")

    def _step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise self._refusal(f"the instruction {name}")

    def _refusal(self, what: str) -> DataError:
        return DataError(
            f"{self.path} asks for {what}; only tensors, numbers, strings, lists and dicts are read, and nothing is "
            "executed; save the state_dict of the network alone."
        )

    # Stack and memo ---------------------------------------------------------------------------------------------------

    def _pop(self) -> Any:
        return self.stack.pop()

    def _taken(self, value: Any) -> Any:
        """Return a value of the result, refusing names, storages, marks, and tuples that hold one."""
        if value is _MARK or isinstance(value, _INTERNAL):
            raise self._refusal("a name or a storage as a value")
        return value

    def _pop_to_mark(self) -> list[Any]:
        marks = (place for place in reversed(range(len(self.stack))) if self.stack[place] is _MARK)
        where = next(marks, None)
        if where is None:
            raise ValueError("a mark is missing")
        values = self.stack[where + 1 :]
        del self.stack[where:]
        return values

    def _store(self, key: int | None) -> None:
        self.memo[len(self.memo) if key is None else key] = self.stack[-1]

    def _recall(self, key: int) -> None:
        self.stack.append(self.memo[key])

    # Containers -------------------------------------------------------------------------------------------------------

    def _tuple(self, count: int | None) -> None:
        values = self._pop_to_mark() if count is None else [self._pop() for _ in range(count)][::-1]
        kind = _Arguments if any(isinstance(value, _INTERNAL) for value in values) else tuple
        self.stack.append(kind(values))

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise ValueError("a list is missing")
        target.extend(map(self._taken, values))

    def _set_items(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(flat) % 2:
            raise ValueError("a dict is missing")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if not isinstance(key, Hashable) or not isinstance(key, str | int | float | bool):
                raise self._refusal(f"a dict with a key of type {type(key).__name__}")
            target[key] = self._taken(value)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    # Names, storages, tensors -----------------------------------------------------------------------------------------

    def _name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._admit(_Name(module, name))

    def _stacked_name(self) -> None:
        name, module = self._pop(), self._pop()
        self._admit(_Name(str(module), str(name)))

    def _admit(self, name: _Name) -> None:
        storage = name.module == "torch" and name.name in DTYPES
        if not storage and name not in (_REBUILD, _PARAMETER, _ORDERED):
            raise self._refusal(f"{name}")
        self.stack.append(name)

    def _persistent(self) -> None:
        """Push the storage of ('storage', type, key, device, count), reading its entry when it is first named."""
        match self._pop():
            case ("storage", _Name(module="torch", name=kind), str(key), str(), int(count)) if kind in DTYPES:
                self.stack.append(self._storage(DTYPES[kind], key, count))
            case _:
                raise self._refusal("a storage of an unknown kind")

    def _storage(self, dtype: torch.dtype, key: str, count: int) -> _Storage:
        if not key.isdigit():
            raise self._refusal(f"the storage {key[:80]!r}")
        if key not in self.storages:
            data = bytearray(self.archive.read(f"data/{key}"))
            if count < 0 or len(data) != count * dtype.itemsize:
                raise DataError(
                    f"{self.path}: storage {key} has {len(data):,} bytes, not those of {count:,} {dtype}; "
                    "get the file again."
                )
            values = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            self.storages[key] = _Storage(values)
        known = self.storages[key]
        if known.values.dtype != dtype or len(known.values) != count:
            raise DataError(f"{self.path}: storage {key} is named with two types or sizes; get the file again.")
        return known

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if function == _ORDERED and arguments == ():
            self.stack.append({})
        elif function == _REBUILD and isinstance(arguments, tuple) and len(arguments) in (6, 7):
            self.stack.append(self._tensor(*arguments[:4]))
        elif function == _PARAMETER and isinstance(arguments, tuple) and arguments and isinstance(arguments[0], Tensor):
            self.stack.append(arguments[0])
        else:
            raise self._refusal(f"a call of {function if isinstance(function, _Name) else type(function).__name__}")

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
        numbers = (offset, *size, *stride)
        if not isinstance(storage, _Storage) or not all(isinstance(n, int) and 0 <= n < 2**40 for n in numbers):
            raise self._refusal("a tensor of impossible shape")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
        # A stride of zero could expand a small storage without bound.
        if last >= max(1, len(storage.values)) or count > len(storage.values):
            raise DataError(
                f"{self.path}: a tensor of shape {tuple(size)} reaches beyond its storage; get the file again."
            )
        self.rebuilt += count * storage.values.itemsize
        if self.rebuilt > self.archive.most_rebuilt:
            raise DataError(
                f"{self.path}: its tensors take more than {MOST_REBUILT} times the bytes of the file; "
                "get the file again."
            )
        return storage.values.as_strided(size, stride, offset if count else 0).clone(
            memory_format=torch.contiguous_format
        )

    def _build(self) -> None:
        """Drop the attributes of a state dict (its `_metadata`), which are not needed."""
        attributes = self._pop()
        if not isinstance(self.stack[-1], dict) or not isinstance(attributes, dict):
            raise self._refusal("an object with a state of its own")


_IGNORED = ("PROTO", "FRAME")
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE")
_ACTIONS: dict[str, Callable[[Program, Any], None]] = {
    "BINPUT": Program._store,
    "LONG_BINPUT": Program._store,
    "MEMOIZE": Program._store,
    "BINGET": Program._recall,
    "LONG_BINGET": Program._recall,
    "TUPLE": lambda program, _: program._tuple(None),
    "TUPLE1": lambda program, _: program._tuple(1),
    "TUPLE2": lambda program, _: program._tuple(2),
    "TUPLE3": lambda program, _: program._tuple(3),
    "APPEND": lambda program, _: program._extend([program._pop()]),
    "APPENDS": lambda program, _: program._extend(program._pop_to_mark()),
    "SETITEM": lambda program, _: program._set_item(),
    "SETITEMS": lambda program, _: program._set_items(program._pop_to_mark()),
    "GLOBAL": Program._name,
    "STACK_GLOBAL": lambda program, _: program._stacked_name(),
    "BINPERSID": lambda program, _: program._persistent(),
    "REDUCE": lambda program, _: program._reduce(),
    "BUILD": lambda program, _: program._build(),
}
