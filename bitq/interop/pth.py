"""Read foreign `.pth` files, the zip archives of `torch.save`, without executing anything in them."""

import zipfile
from pathlib import Path
from typing import Any

from torch import Tensor

from bitq.errors import DataError
from bitq.interop.pth_archive import Archive
from bitq.interop.pth_program import Program

STATE = "give a file of torch.save(model.state_dict(), …)"


def read_pth(path: Path) -> dict[str, Any]:
    """Read a file of `torch.save`: a dict of tensors, numbers, strings, None, and lists, tuples and dicts of them."""
    try:
        with zipfile.ZipFile(path) as archive:
            contents = Program(path, Archive(path, archive)).run()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DataError(
            f"{path} is not an archive of torch.save ({error}); files of before torch 1.6 are not read: load and save "
            "them again with a newer torch."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; get the file again.") from error
    if not isinstance(contents, dict):
        raise DataError(f"{path} holds a {type(contents).__name__}, but tensors by name are needed; {STATE}.")
    return contents


def state_of(contents: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Find the network's tensors in a dict that `read_pth` read: the whole dict, or an entry with a usual name."""
    for name in ("model_state_dict", "state_dict", "model"):
        if isinstance(contents.get(name), dict):
            contents = contents[name]
    odd = [name for name, value in contents.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd or not contents:
        what = f"{odd[0]!r} is no tensor" if odd else "it is empty"
        raise DataError(f"{path} holds no state of a network, since {what}; {STATE}.")
    return {name.removeprefix("module."): value for name, value in contents.items()}
