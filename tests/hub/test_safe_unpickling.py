"""The `.pth` import against files made to run code, to crash the process, or to fill the memory."""

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pth_mutations
import pytest
import torch

from prolab_hf.hub import pickle_reader, safe_unpickling
from prolab_hf.hub.safe_unpickling import load_tensors_safely

# Crashed numpy's own dtype (SIGSEGV) through its state.
CRASHES_NUMPY = (
    b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NN\x86"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb."
)
HUGE_ARRAY = b"\x80\x02cnumpy\nndarray\n\x8a\x05\x00\x10\xa5\xd4\xe8\x85\x85R."
DTYPE = (
    b"cnumpy\ndtype\nX\x02\x00\x00\x00f8\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def archive_of(content, **entries):
    """An archive as torch writes it, around any pickle; `entries` are put beside it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", b"3\n")
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
    return out.getvalue()


def refused(tmp_path, data):
    """The one line that a file is refused with."""
    path = tmp_path / "file.pth"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="can be read safely") as error:
        load_tensors_safely(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_everything_that_weights_and_banks_hold_comes_back(tmp_path, legacy):
    weights = torch.nn.Conv2d(3, 2, 1)
    content = {
        **pth_mutations.content(),
        "state_dict": weights.state_dict(),
        "optimizer": {0: {"step": torch.tensor(3), "betas": (0.9, float("inf"))}, "params": [0, None, True]},
        "types": [torch.ones(2, dtype=t) for t in (torch.bfloat16, torch.int8, torch.uint8, torch.bool)],
        "arrays": [np.asfortranarray(np.eye(2, 3).astype(t)) for t in ("f2", ">f4", "i4", "?")],
        "views": [torch.arange(10)[2:8:2], torch.zeros(0, 3), torch.ones(1).expand(4, 2)],
        "bytes": [b"\x00\xff", "ü", 2**40, -1, {1, 2}, torch.Size([2, 3])],
        "names": [torch.device("cpu"), torch.float16],
    }
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=not legacy)
    found = load_tensors_safely(tmp_path / "file.pth")
    content["state_dict"] = dict(content["state_dict"])
    content["bytes"][-1], content["names"] = (2, 3), ["cpu", "torch.float16"]
    assert pth_mutations.equal(found, content)
    assert found["types"][0].dtype == torch.bfloat16
    torch.save(torch.nn.Parameter(torch.ones(2)), tmp_path / "file.pth")
    assert torch.equal(load_tensors_safely(tmp_path / "file.pth"), torch.ones(2))


def test_tensors_that_share_numbers_share_them_again(tmp_path):
    tensor = torch.zeros(4)
    torch.save([tensor, tensor[1:3]], tmp_path / "file.pth")
    whole, part = load_tensors_safely(tmp_path / "file.pth")
    whole[1] = 5
    assert part[0] == 5


HOSTILE = {
    "state of a dtype": (CRASHES_NUMPY, "state of a numpy type"),
    "huge array": (HUGE_ARRAY, "not callable"),
    "system": (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "unsupported global posix.system"),
    "eval": (b"\x80\x02cbuiltins\neval\n.", "unsupported global builtins.eval"),
    "objects": (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x89\x88\x87R.", "unsupported numpy type 'O8'"),
    "bare dtype": (b"\x80\x02" + DTYPE + b".", "a bare Dtype"),
    "bare storage": (b"\x80\x02ctorch\nFloatStorage\n.", "a bare Name"),
    "memo": (b"\x80\x02]r\xff\xff\xff\xff.", "more memory than a file of its size needs"),
    "a list in itself": (b"\x80\x02]q\x00h\x00a.", "nested too deeply"),
    "long bytes": (b"\x80\x04(((((\x8e" + b"\xff" * 7 + b"\x7f.", "Error"),
    "depth": (b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", "nested too deeply"),
    "long number": (b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".", "more than 64 bits"),
    "key": (b"\x80\x02}]K\x01s.", "unhashable"),
    "nothing": (b"", "Ran out of input"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_one_line(tmp_path, name):
    content, reason = HOSTILE[name]
    assert reason in refused(tmp_path, archive_of(content))


@pytest.mark.parametrize("content", [CRASHES_NUMPY, HUGE_ARRAY, b"", b"\x80\x02.", b"hello"])
def test_bare_pickles_are_one_line(tmp_path, content):
    refused(tmp_path, content)


def test_every_list_twice_in_the_next_does_not_fill_the_memory(tmp_path):
    doubled = b"\x80\x02]q\x00" + b"".join(
        b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(45)
    )
    assert "more than 200000 values" in refused(tmp_path, archive_of(doubled + b"."))


@pytest.mark.parametrize(
    ("size", "stride", "offset", "reason"),
    [
        ((3,), (1,), 0, "beyond its storage"),
        ((2,), (1,), 1, "beyond its storage"),
        ((2, 2), (1,), 0, "other numbers of sizes and strides"),
        ((2,), (-1,), 1, "whole numbers"),
        ((10**12,), (0,), 0, "far more numbers"),
        ((2**63, 2**63), (0, 0), 0, "whole numbers"),
        ((2**40, 2**40), (0, 0), 0, "far more numbers"),
    ],
)
def test_tensors_stay_inside_of_their_storage(tmp_path, size, stride, offset, reason):
    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, None)

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", 2) if isinstance(value, Storage) else None

    out = io.BytesIO()
    Pickler(out, protocol=2).dump([Tensor()])
    assert reason in refused(tmp_path, archive_of(out.getvalue(), **{"data/0": b"\0" * 8}))


def rewritten(change):
    """The archive of a small file with its directory changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pth_mutations.saved())) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            change(new, entry, old.read(entry))
    return out.getvalue()


def test_compressed_entries_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data/0", b"\0" * 10**8)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("read"))
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_, **__: pytest.fail("read"))
    assert len(out.getvalue()) < 10**6
    assert "is compressed" in refused(tmp_path, out.getvalue())


def test_a_directory_that_claims_more_than_the_file_has_is_refused(tmp_path):
    data = bytearray(archive_of(b"\x80\x02N.", **{"data/0": b"\0" * 8}))
    place = data.rindex(b"PK\x01\x02")  # the directory's line of the last entry
    data[place + 20 : place + 28] = b"\xf0\xff\xff\x7f" * 2  # both of its sizes
    assert "claims more bytes" in refused(tmp_path, bytes(data))


def test_a_storage_must_have_its_size_and_its_checksum(tmp_path):
    saved = pth_mutations.saved()

    def shorter(new, entry, data):
        new.writestr(entry.filename, data[:-1] if entry.filename.endswith("data/0") else data)

    assert "bytes instead of" in refused(tmp_path, rewritten(shorter))
    place = saved.index(np.arange(12, dtype="<f4").tobytes())
    assert "Bad CRC" in refused(tmp_path, saved[:place] + b"\1" + saved[place + 1 :])
    assert "no bytes instead of" in refused(tmp_path, saved.replace(b"data/0", b"data/z"))
    assert "byte order" in refused(tmp_path, archive_of(b"\x80\x02N.", byteorder=b"big"))


def test_a_crash_of_the_reader_is_one_line(tmp_path, monkeypatch):
    script = tmp_path / "pickle_reader.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(safe_unpickling, "__file__", str(tmp_path / "safe_unpickling.py"))
    assert "ended by SIGSEGV" in refused(tmp_path, archive_of(b"\x80\x02N."))
    script.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(safe_unpickling, "SECONDS", 0.2)
    assert "took more than 0.2 seconds" in refused(tmp_path, archive_of(b"\x80\x02N."))


def test_too_little_memory_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(safe_unpickling, "_fill", lambda *_: (_ for _ in ()).throw(MemoryError))
    assert "more memory than there is" in refused(tmp_path, pth_mutations.saved())


def test_the_reader_needs_only_the_standard_library_and_limits_itself():
    code = (
        "import sys, runpy, resource; before = set(sys.modules);"
        f"module = runpy.run_path({pickle_reader.__file__!r}, run_name='reader');"
        "module['limit_resources'](1000);"
        "print(sorted({n.split('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names));"
        "print(resource.getrlimit(resource.RLIMIT_AS)[1])"
    )
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    modules, memory = out.stdout.split("\n")[:2]
    assert modules == "[]"
    assert int(memory) == pickle_reader.MEMORY_FOR_PYTHON + 8000


@pytest.mark.parametrize(("form", "count"), [("archive", 250), ("legacy", 25), ("pickle", 25)])
def test_damaged_files_are_refused_by_name(tmp_path, form, count):
    counts = pth_mutations.run(form, count, tmp_path)
    assert counts["raw"] == counts["unnamed"] == counts["silent"] == 0, counts
    assert counts["clean"] > count / 2, counts


def test_hundreds_of_damaged_pickles_never_end_the_reader(tmp_path):
    """The reader itself, many pickles to one process: nothing but refusals."""
    out = io.BytesIO()
    torch.save(pth_mutations.content(), out)
    with zipfile.ZipFile(out) as archive:
        original = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
    numbers = pth_mutations.random.Random(1)
    pickles = [pth_mutations.mutated(original, numbers) for _ in range(400)]
    code = (
        "import sys, runpy, io, pickle\n"
        "module = runpy.run_path(sys.argv[1], run_name='reader')\n"
        "module['limit_resources'](2**20)\n"
        "counts = {'read': 0, 'refused': 0}\n"
        "for data in pickle.load(sys.stdin.buffer):\n"
        "    try:\n"
        "        module['read'](io.BytesIO(data), is_legacy=False)\n"
        "        counts['read'] += 1\n"
        "    except Exception:\n"
        "        counts['refused'] += 1\n"
        "print(counts['read'], counts['refused'])\n"
    )
    script = str(Path(pickle_reader.__file__))
    result = subprocess.run(
        [sys.executable, "-I", "-c", code, script],
        input=pickle.dumps(pickles),
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    read, turned_down = map(int, result.stdout.split())
    assert read + turned_down == 400 and turned_down > 200
