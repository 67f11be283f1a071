"""Every message says what was given, what is allowed and what to call instead."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import bitq
from bitq.errors import BitqError, UsageError
from tests.messages import faults, messages
from tests.test_cli import ONE_OFF, Outcome, here  # noqa: F401

# Messages that have another form, by their beginning, and why.
OTHER_FORM = {
    "--{}": "the rest is written by records.explain, which names key, value and what is allowed",
    "{}: {}": "the rest is written by records.explain",
    "{}/{}: distillation: {}": "the rest is written by records.explain",
    "{}/{}/{}/{}: {}": "the rest is written by records.explain",
    "{}: {} {}": "the rest is written by records.explain, and the remedy is handed in",
    "{} of {} runs are complete; problems: {}\n{}": "lists the damaged and missing runs, each with its remedy",
    "the grid did not survive its failures:\n{}": "lists what was lost in a rehearsal of failures",
    "{} of {} packed files, drawn by --draw {}, contradict their results:\n{}": "lists the files that differ",
    "{} of {} cells of {} and {} are different.": "an answer, as that of diff, and no failure",
    "{}": "lists the numbers that were typed into the text, each with its macro",
}
# Weak messages of the engine: its statements are digested, so that they change only with every result.
ENGINE = {
    "activations, rounding and biases are calibrated for quantized layers, but none is quantized.",
    "bias_correction changes biases, but {} has none; with fold=true a convolution takes over that of the "
    "normalisation behind it.",
    "codes must be uint8 and below {}, not {} up to {}.",
    "no layer matches {}; this model has {}.",
    "optimizer state {} has strides {}, its parameter {}.",
    "the arrays given for {}/{} are not those of its digest {}.",
    "the packed codes hold values outside their {} levels.",
    "the residual does not say where its {} values lie among {} weights",
    "this spec describes no network: {}.",
    "a header of {} and tensors of {} bytes are more than a reader would accept.",
    "{} cannot be moved aside: {}.",
    "{} cannot be read as a table of {} ({}).",
    "{} cannot be read: {}.",
    "{} codes of {} levels in {} take {} uint8 bytes, not {}.",
    "{} describes a network that cannot be built: {}",
    "{} gets {} images right, the network in memory {}.",
    "{} holds a network of {}, but {} was asked for; {}.",
    "{} is damaged or not the {} form of {}; {}.",
    "{} is {}; the file format holds {}.",
    "{} needs {}, which diverged and ships nothing to go on from.",
    "{} saw no image, so its activations have no range.",
    "{} was to have static activations, but has {}.",
    "{} went non-finite ({}).",
    "{} {}={} was given; it takes {}{}.",
    "{}: codes are {}, not uint8 of the weight's shape {}.",
    "{}: declares {} levels, but ships values {}.",
    "{}: ships scales {}; its {} levels allow {} in float32.",
    "{}: the logits differ from those in memory in {}, first after {}.",
    "{}: the weight used in evaluation is not the one that ships.",
    "{}: the {} arrays are not the uint8 {}.",
    "{}: {} differs from the one in memory.",
    "{}: {} distinct weights under one scale, more than the {} levels it declares.",
    "{}: {}.codes: {}",
    "{}={} was given; it is a share, from 0 to 1.",
}


def exception_of(text: str) -> str | None:
    """Find the entry of OTHER_FORM for a message."""
    return next((begin for begin in OTHER_FORM if text == begin or ("\n" in begin and text.startswith(begin))), None)


def test_every_message_names_what_was_given_and_a_remedy() -> None:
    found = messages()
    assert len(found) > 280
    weak = {each.text for each in found if each.is_engine and faults(each.text)}
    assert weak == ENGINE
    others = {f"{each.place}: {each.text}": faults(each.text) for each in found if not each.is_engine}
    unexplained = {text: why for text, why in others.items() if why and not exception_of(text.partition(": ")[2])}
    assert unexplained == {}


def test_no_exception_outlives_its_message() -> None:
    faulty = {exception_of(each.text) for each in messages() if not each.is_engine and faults(each.text)}
    assert faulty == OTHER_FORM.keys()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{} is odd.", "no remedy"),
        ("Oh: give another file.", "begins with neither what was given nor its object"),
        ("{} was given; give another", "no full stop"),
        ("{} raised an exception; give another.", "jargon: exception"),
        ("{} is odd. It is. Do give another.", "more than two sentences"),
    ],
)
def test_a_bad_message_would_be_found(text: str, fault: str) -> None:
    assert faults(text) == [fault]


SMOKE = (*ONE_OFF, "--scale", "smoke")
TYPED = {
    ("trian",): "unknown command 'trian'; allowed: …. Did you mean 'train'?",
    ("list",): "unknown command 'list'; call bitq grid or bitq results or bitq …",
    ("data", "get"): "unknown command 'get'; allowed: describe, fetch, import, info.",
    ("train", "--modell", "x"): "unknown option '--modell'; bitq train --help lists all. Did you mean '--model'?",
    ("evaluate",): "bitq evaluate needs FILE; call it as in: bitq evaluate model.safetensors --plots plots.",
    ("evaluate", "--plots"): "--plots was given without a value; bitq …--help lists all.",
    ("demo", "a", "b"): "bitq demo takes no further 'b'; bitq demo --help lists all.",
    ("plan", "--jobs", "0"): "--jobs '0' was given; allowed: greater than or equal to 1.",
    ("plan", "--jobs", "two"): "--jobs 'two' was given; allowed: a valid integer.",
    ("train",): "a run needs --model; for example: bitq train --model resnet18 --dataset cifar10 --method bitnet (or "
    "bitq train RUN, one that bitq grid lists).",
    ("grid", "--scale", "tiny"): "unknown scale 'tiny'; allowed: full, mini, smoke.",
    ("grid", "--study", "rings"): "unknown study 'rings'; allowed: …. Did you mean 'ring'?",
    ("grid", "--seed", "7"): "unknown seed 7; allowed: ….",
    ("grid", "abc"): "unknown run 'abc'; bitq grid --scale full lists all …. Of a hash at least 6 digits are needed.",
    ("grid", "ring/*/fp33/s42"): "no run matches 'ring/*/fp33/s42'; bitq grid --scale full lists all …, such as ….",
    ("train", "--phase", "1"): "--phase 1 was given without its study; name it too, as in --study ring.",
    (*SMOKE, "--method", "bitnt"): "unknown method 'bitnt'; allowed: …. Did you mean 'bitnet'?",
    (*SMOKE, "--model", "resnet19"): "unknown model 'resnet19'; allowed: …. Did you mean 'resnet18'?",
    (*SMOKE, "--dataset", "cifar"): "unknown data set 'cifar'; allowed: …. Did you mean 'cifar10'?",
    (*SMOKE, "--keep", "conv_1"): "unknown layer to keep 'conv_1'; allowed: …. Did you mean 'conv1'? A glob on layer "
    "names works too.",
    (*SMOKE, "--setting", "levels"): "--setting 'levels' was given; write KEY=VALUE once, as in threshold=0.05.",
    (*SMOKE, "--setting", "x=1"): "method 'fp32' has no setting 'x'; allowed: none.",
    (*SMOKE, "--seed", "-1"): "--seed -1 was given; allowed: 0 to 4294967295.",
    (*SMOKE, "--width", "2000"): "…width 2000 was given; allowed: less than or equal to 1024.",
    (*SMOKE, "--alpha", "1"): "--temperature and --alpha need a teacher: add --teacher RUN or --teacher FILE.",
    (*SMOKE, "--batch", "999"): "batch=999 was given, but there are 640 training images; allowed: 1 to 640.",
    (*SMOKE, "--epochs", "0"): "…epochs 0 trains nothing; name a start, the run or file to quantize as it is.",
    (*SMOKE, "--milestones", "x"): "'x' is not a whole number; write milestones like 100,150.",
    (*SMOKE, "--start", "nosuch"): "'nosuch' is neither a run of the grid, …, nor a FILE.safetensors (…).",
    (*SMOKE, "--mode", "quick"): "unknown mode 'quick'; allowed: exact, fast.",
    (*SMOKE, "--device", "tpu"): "--device tpu was given; allowed: auto, cpu, cuda, cuda:N.",
    (*SMOKE, "--threads", "0"): "--threads 0 was given; allowed: 1 and more.",
    (*SMOKE, "--jobs", "0"): "--jobs 0 was given; allowed: 1 and more, such as --jobs 2.",
    ("evaluate", "nowhere"): "nowhere does not exist; give a file that is there.",
    ("evaluate", "bitq"): "bitq is a folder; give a file in it.",
    ("evaluate", "README.md"): "README.md …; delete it and run the command that wrote it again, if that was bitq's.",
    ("evaluate", "README.md", "--plots", "/proc/no"): "nothing can be written to /proc/no: …; name another folder.",
    ("export", "README.md", "LICENSE"): "LICENSE exists; give a name that is free, nothing is overwritten.",
    ("export", "README.md", "no/x"): "no is no folder; make it first, or give a file in one that is there.",
    ("import", "README.md", "new"): "README.md is not an archive of torch.save (…); files of before torch 1.6 are not "
    "read: load and save them again with a newer torch.",
    ("demo", "--image", "3"): "--image, --dataset and --variant choose what a file classifies; call bitq demo FILE.",
    ("data", "fetch", "imagenet"): "unknown data set 'imagenet'; allowed: …. Did you mean 'tiny_imagenet'?",
    ("data", "import", "cifar10", "README.md"): "README.md was given; allowed: a .npz file, a .parquet file or a "
    "folder of .parquet files.",
    ("stats", "--runs", "no.parquet", "--out", "x"): "no.parquet "
    "does not exist; write it with: bitq aggregate --out ..",
}  # fmt: skip
CODES = {"nowhere": 65, "bitq": 65, "README.md": 65, "no.parquet": 65, "/proc/no": 74}


@pytest.mark.parametrize("arguments", TYPED, ids=" ".join)
def test_a_wrong_call_ends_in_this_sentence(arguments: tuple[str, ...], here: Callable[..., Outcome]) -> None:  # noqa: F811
    ended = here(*arguments)
    wanted = "bitq: " + ".*".join(map(re.escape, TYPED[arguments].split("…"))) + "\n"
    assert re.fullmatch(wanted, ended.stderr), ended.stderr
    assert (ended.returncode, ended.stdout) == (code_of(arguments), "")


def code_of(arguments: tuple[str, ...]) -> int:
    """Return the exit code: 2 of a wrong request, 65 of a wrong file, 74 where nothing can be written."""
    if arguments[0] in ("export", "data"):
        return UsageError.exit_code
    return max(CODES.get(each, UsageError.exit_code) for each in arguments)


NET = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
CALLED: dict[str, tuple[Callable[[], object], str]] = {
    "method": (lambda: bitq.quantize(NET, "bitnt"), "unknown method 'bitnt'; allowed: .* Did you mean 'bitnet'[?]"),
    "layer": (lambda: bitq.quantize(NET[0], "twn"), r"a single Linear was given; put it into a network: .*"),
    "keep": (lambda: bitq.quantize(NET, "twn", keep=["conv9"]), "no layer matches 'conv9'; this model has .*"),
    "float": (lambda: bitq.export(NET, Path("net.safetensors")), "this network has no quantized layer; call bitq.qu.*"),
    "load": (lambda: bitq.load(Path("nowhere")), "nowhere does not exist; give a file that is there."),
    "data": (lambda: bitq.calibrate(bitq.quantize(NET, "int8", activations="static"), []), "data yields no batch; .*"),
}


@pytest.mark.parametrize("name", CALLED)
def test_a_wrong_call_of_the_library_ends_in_this_sentence(name: str) -> None:
    call, sentence = CALLED[name]
    with pytest.raises(BitqError) as error:
        call()
    assert re.fullmatch(sentence, str(error.value)), error.value
