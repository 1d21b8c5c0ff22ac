"""The losses against the published numbers, a plain formulation, and what torch expects of an operator."""

import importlib.util
import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from prolab_hf.model import loss_streaming_prolab as streaming_prolab
from prolab_hf.model.loss_kernels_prolab import KERNELS
from prolab_hf.model.loss_operators_prolab import class_rows, upsampled_inverse_norm
from prolab_hf.model.loss_plain_prolab import (
    plain_class_cross_entropy_loss,
    plain_property_cosine_loss,
    plain_property_regression_loss,
)
from prolab_hf.model.loss_prolab import (
    class_cross_entropy_loss,
    property_cosine_loss,
    property_regression_loss,
)
from prolab_hf.model.loss_streaming_prolab import StreamGradients, StreamInputs, stream_blocks, stream_rows

MODES = {
    # name of the golden file: (temperature, normalized, sigmoid)
    "cosine_similarity_with_sigmoid_norm0": (0.04, False, True),
    "cosine_similarity_with_sigmoid_norm1": (0.01, True, True),
    "cosine_similarity_norm0": (0.04, False, False),
}


def our_loss(logits, labels, matrix, *, kind, embeddings, sigmoid, **options):
    options.update(pixel_embeddings=embeddings, apply_sigmoid=sigmoid)
    if kind == "cosine":
        return property_cosine_loss(logits, labels, matrix, **options)
    return property_regression_loss(logits, labels, matrix, kind=kind, **options)


def plain_loss(logits, labels, matrix, *, kind, embeddings, sigmoid, **options):
    """The same by the formulas in view, `loss_implementation="plain"`."""
    options.update(pixel_embeddings=embeddings, apply_sigmoid=sigmoid)
    if kind == "cosine":
        return plain_property_cosine_loss(logits, labels, matrix, **options)
    return plain_property_regression_loss(logits, labels, matrix, kind=kind, **options)


IMPLEMENTATIONS = {
    "streamed": (our_loss, class_cross_entropy_loss),
    "plain": (plain_loss, plain_class_cross_entropy_loss),
}


def example(
    *, batch=2, properties=5, classes=4, features=(3, 4), size=(9, 13), dim=6, dtype=torch.float32, seed=0
):
    """Logits, labels with void, a class matrix with an empty class, and embeddings."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, properties, *features, generator=generator, dtype=dtype) * 0.1
    labels = torch.randint(0, classes, (batch, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    matrix = (torch.rand(classes, properties, generator=generator) < 0.5).float()
    matrix[0], matrix[-1] = 1, 0
    embeddings = torch.randn(batch, dim, *features, generator=generator, dtype=dtype)
    return logits.requires_grad_(), labels, matrix, embeddings.requires_grad_()


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, [tensor for tensor in tensors if tensor is not None])


def relative(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30)).item()


# ---- the published numbers ---------------------------------------------------------------------------------


# The published mask has no effect on the regression losses; the published BCE crashes on raw similarities.
PUBLISHED = [
    (mode, prefix, labels, kind, void_pixels)
    for mode in MODES
    for prefix, labels, kind, void_pixels in (
        ("cos_ignoreNone/loss/loss_cos_simi", "label", "cosine", "dilute"),
        ("cos_ignore255/loss/loss_cos_simi", "label", "cosine", "mask"),
        ("lowres_cos/loss/loss_cos_simi", "label_lowres", "cosine", "dilute"),
        ("bce_ignoreNone/loss/loss_BCE", "label", "bce", "dilute"),
        ("mse_ignoreNone/loss/loss_MSE", "label", "mse", "dilute"),
    )
    if kind != "bce" or MODES[mode][2]
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("mode", "name", "labels", "kind", "void_pixels"), PUBLISHED)
def test_equals_the_published_losses_and_gradients(
    shared: Path, mode, name, labels, kind, void_pixels, implementation
):
    temperature, normalized, sigmoid = MODES[mode]
    golden = load_file(shared / "goldens" / f"losses_{mode}.safetensors")
    embeddings = golden["input/embedding"].clone().requires_grad_()
    logits = torch.einsum("bdhw,kd->bkhw", embeddings, golden["bank/normalized_KxD"])
    loss = IMPLEMENTATIONS[implementation][0](
        logits,
        golden[f"input/{labels}"][:, 0],
        golden["bank/cluster2label_NxK"],
        kind=kind,
        temperature=temperature,
        void_pixels=void_pixels,
        embeddings=embeddings if normalized else None,
        sigmoid=sigmoid,
    )
    torch.testing.assert_close(loss[None], golden[f"output/{name}"], rtol=1e-6, atol=1e-6)
    expected = golden[f"output/{name.split('/')[0]}/grad_embedding"]
    assert relative(gradients(loss, embeddings)[0], expected) < 1e-5


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_published_class_cross_entropy(shared: Path, implementation):
    golden = load_file(shared / "goldens" / "losses_cosine_similarity_with_sigmoid_norm0.safetensors")
    labels = golden["input/label"][:, 0]
    loss = IMPLEMENTATIONS[implementation][1](golden["output/class_logits_train"], labels)
    loss = loss * (labels != 255).float().mean()  # the published mean is over all pixels, void ones adding 0
    torch.testing.assert_close(loss[None], golden["output/ce_ignore255/loss/loss_ce"], rtol=1e-6, atol=1e-6)


def test_crop_without_valid_pixels(shared: Path):
    """Published: 1 when diluted, NaN when masked. Ours: 1 and 0, gradients 0."""
    golden = load_file(shared / "goldens" / "losses_cosine_similarity_with_sigmoid_norm0.safetensors")
    logits, labels, matrix, _ = example()
    labels.fill_(255)
    diluted = property_cosine_loss(logits, labels, matrix, temperature=0.04, void_pixels="dilute")
    assert diluted.item() == golden["output/allignored_cos_ignoreNone/loss/loss_cos_simi"].item() == 1
    masked = [
        property_cosine_loss(logits, labels, matrix, temperature=0.04),
        property_regression_loss(logits, labels, matrix, kind="bce", temperature=0.04),
        class_cross_entropy_loss(logits, labels),
        plain_property_cosine_loss(logits, labels, matrix, temperature=0.04),
        plain_property_regression_loss(logits, labels, matrix, kind="bce", temperature=0.04),
        plain_class_cross_entropy_loss(logits, labels),
    ]
    assert [loss.item() for loss in masked] == [0] * 6
    for loss in (diluted, *masked):
        assert gradients(loss, logits)[0].abs().max() == 0


# ---- the plain formulation ---------------------------------------------------------------------------------

SIZES = [
    ((3, 4), (12, 16)),  # the usual factor four
    ((5, 3), (13, 17)),  # odd
    ((6, 5), (6, 5)),  # labels at feature resolution
    ((9, 8), (4, 3)),  # labels smaller than the features
    ((1, 1), (5, 4)),
    ((7, 2), (3, 9)),
]


@pytest.mark.parametrize(("features", "size"), SIZES)
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("kind", ["cosine", "bce", "mse"])
def test_equals_the_plain_formulation(kind, normalized, features, size):
    logits, labels, matrix, embeddings = example(features=features, size=size)
    for void_pixels in ("mask", "dilute"):
        for sigmoid in (True, False):
            if kind == "bce" and not sigmoid:
                continue
            options = dict(
                kind=kind, temperature=0.1, ignore_index=255, void_pixels=void_pixels, sigmoid=sigmoid
            )
            options["embeddings"] = embeddings if normalized else None
            ours, plain = (
                our_loss(logits, labels, matrix, **options),
                plain_loss(logits, labels, matrix, **options),
            )
            torch.testing.assert_close(ours, plain, rtol=2e-6, atol=1e-6)
            for our, their in zip(
                gradients(ours, logits, options["embeddings"]),
                gradients(plain, logits, options["embeddings"]),
            ):
                # Raw cosines do not change with the norm: the gradient by the embeddings is rounding alone.
                assert relative(our, their) < 1e-5 or (our - their).abs().max() < 1e-8


@pytest.mark.parametrize(("features", "size"), SIZES)
def test_class_cross_entropy_equals_torch(features, size):
    logits, labels, _, _ = example(properties=4, features=features, size=size)
    wide = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(wide, labels, ignore_index=255)
    (by_logits,) = gradients(expected, logits)
    for function in (class_cross_entropy_loss, plain_class_cross_entropy_loss):
        found = function(logits, labels)
        torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-6)
        assert relative(gradients(found, logits)[0], by_logits) < 1e-5


@pytest.mark.parametrize("kind", sorted(KERNELS))
@pytest.mark.parametrize(("features", "size"), SIZES[:4])
def test_both_ways_through_the_rows_agree(kind, features, size):
    """The large blocks for a GPU, the cached rows for the CPU, and any cut of the rows into shares."""
    logits, labels, matrix, _ = example(batch=1, properties=4, features=features, size=size)
    table = torch.cat([matrix[:, :4], torch.zeros(1, 4)])
    scale = torch.rand(size[0], 1, size[1]) + 0.5
    inputs = StreamInputs(logits.detach(), class_rows(labels, 4, 255), table, scale, kind, 3.0, False)

    def run(stream, **options):
        collected = StreamGradients(torch.zeros_like(logits), torch.zeros_like(scale))
        with torch.no_grad():
            total = sum(stream(inputs, collected, **option) for option in options.pop("calls"))
        return total, *collected

    lock = threading.Lock()
    half = size[0] // 2
    halves = [{"share": range(half), "lock": lock}, {"share": range(half, size[0]), "lock": lock}]
    expected = run(stream_blocks, calls=[{}])
    for found in (
        run(stream_blocks, calls=[{"block_rows": 2}]),
        run(stream_rows, calls=[{}]),
        run(stream_rows, calls=[{"block_rows": 1}]),
        run(stream_rows, calls=[{"block_rows": 3}]),
        run(stream_rows, calls=halves),
    ):
        for ours, theirs in zip(found, expected):
            torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("properties", [1, 2, 300])
def test_any_number_of_properties(properties):
    logits, labels, matrix, _ = example(properties=properties)
    options = dict(
        kind="cosine", temperature=0.1, ignore_index=255, void_pixels="mask", embeddings=None, sigmoid=True
    )
    ours, plain = our_loss(logits, labels, matrix, **options), plain_loss(logits, labels, matrix, **options)
    torch.testing.assert_close(ours, plain, rtol=2e-6, atol=1e-6)
    # With one property every score points the same way: the gradient is zero up to rounding.
    torch.testing.assert_close(*gradients(ours, logits), *gradients(plain, logits), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "bce", "mse"])
@pytest.mark.parametrize("normalized", [False, True])
def test_gradcheck_in_float64(kind, normalized):
    logits, labels, matrix, embeddings = example(
        batch=1, features=(2, 3), size=(5, 7), dtype=torch.float64, dim=3
    )

    def loss(values, vectors):
        return our_loss(
            values,
            labels,
            matrix,
            kind=kind,
            temperature=0.3,
            embeddings=vectors if normalized else None,
            sigmoid=True,
        )

    assert torch.autograd.gradcheck(loss, (logits, embeddings if normalized else embeddings.detach()))


def test_gradcheck_of_the_class_loss_and_raw_similarities():
    logits, labels, matrix, _ = example(batch=1, features=(2, 3), size=(5, 7), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda values: class_cross_entropy_loss(values, labels % 5), (logits,))
    assert torch.autograd.gradcheck(
        lambda values: our_loss(
            values, labels, matrix, kind="cosine", temperature=1, embeddings=None, sigmoid=False
        ),
        (logits,),
    )


def test_norm_of_upsampled_embeddings():
    _, _, _, embeddings = example(features=(4, 5), size=(1, 1))
    with torch.no_grad():
        embeddings[0, :, 1, 2] = 0
        embeddings[1] = 0
    ours = upsampled_inverse_norm(embeddings, (11, 17))
    wide = F.interpolate(embeddings, size=(11, 17), mode="bilinear", align_corners=False)
    plain = torch.linalg.vector_norm(wide, dim=1).clamp_min(1e-12).reciprocal().transpose(0, 1)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=0)
    assert gradients(ours[:, 1].sum(), embeddings)[0].isfinite().all()


# ---- what the published code gets wrong --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cosine", "bce", "mse"])
def test_masked_pixels_do_not_count(kind):
    """The loss of a half void crop is that of its other half alone (features do not mix at factor 1)."""
    logits, labels, matrix, _ = example(features=(4, 6), size=(4, 6), classes=4)
    labels %= 4
    options = dict(kind=kind, temperature=0.1, embeddings=None, sigmoid=True)
    alone = our_loss(logits[..., :3], labels[..., :3], matrix, **options)
    labels[..., 3:] = 255
    masked = our_loss(logits, labels, matrix, **options)
    torch.testing.assert_close(masked, alone)
    assert gradients(masked, logits)[0][..., 3:].abs().max() == 0


def test_each_diluting_pixel_adds_one():
    logits, labels, matrix, _ = example()
    share = (labels == 255).float().mean()
    masked = property_cosine_loss(logits, labels, matrix, temperature=0.1)
    diluted = property_cosine_loss(logits, labels, matrix, temperature=0.1, void_pixels="dilute")
    torch.testing.assert_close(diluted, share + (1 - share) * masked)


def test_bce_needs_a_sigmoid():
    logits, labels, matrix, _ = example()
    with pytest.raises(ValueError, match="apply_sigmoid=True"):
        property_regression_loss(logits, labels, matrix, kind="bce", temperature=1.0, apply_sigmoid=False)


@pytest.mark.parametrize("bad", [-1, 4, 254])
def test_labels_outside_the_classes_are_refused(bad):
    logits, labels, matrix, _ = example(classes=4)
    labels[1, 2, 3] = bad
    for function in (property_cosine_loss, plain_property_cosine_loss):
        with pytest.raises(ValueError, match=rf"{bad}.*classes are 0 to 3.*ignore index is 255"):
            function(logits, labels, matrix, temperature=1.0)
    for function in (class_cross_entropy_loss, plain_class_cross_entropy_loss):
        with pytest.raises(ValueError, match=str(bad)):
            function(logits[:, :4], labels)


def test_many_classes_and_other_ignore_index():
    logits, _, _, _ = example(features=(2, 2), size=(1, 1))
    matrix = torch.eye(5).repeat(80, 1)
    labels = torch.randint(0, 400, (2, 6, 6))
    plain = property_cosine_loss(logits, labels % 5, torch.eye(5), temperature=1.0)
    torch.testing.assert_close(
        property_cosine_loss(logits, labels, matrix, temperature=1.0, ignore_index=-1), plain
    )
    labels[0] = 255  # a class here, not void
    full = property_cosine_loss(logits, labels, matrix, temperature=1.0, ignore_index=65535)
    torch.testing.assert_close(full, property_cosine_loss(logits, labels % 5, torch.eye(5), temperature=1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(property_logits=torch.zeros(2, 5, 3)), "logits must be floating"),
        (dict(labels=torch.zeros(2, 9, 13)), "labels must be integers"),
        (dict(labels=torch.zeros(1, 9, 13, dtype=torch.int64)), "batch of 2"),
        (dict(class_property_matrix=torch.zeros(4, 6)), "class_property_matrix"),
        (dict(temperature=0.0), "temperature"),
        (dict(void_pixels="ignore"), "'mask', 'dilute'"),
        (dict(pixel_embeddings=torch.zeros(2, 6, 4, 4)), "pixel_embeddings"),
        (dict(kind="l1"), "'bce', 'mse'"),
    ],
)
def test_wrong_arguments(change, message):
    logits, labels, matrix, _ = example()
    arguments = dict(property_logits=logits, labels=labels, class_property_matrix=matrix, temperature=1.0)
    for function in (property_regression_loss, plain_property_regression_loss):
        with pytest.raises(ValueError, match=message):
            function(**{**arguments, **change})


# ---- at home in torch --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(dtype):
    logits, labels, matrix, embeddings = example()
    half = [tensor.detach().to(dtype).requires_grad_() for tensor in (logits, embeddings)]
    full = [tensor.detach().float().requires_grad_() for tensor in half]
    for function in (property_cosine_loss, plain_property_cosine_loss):
        losses = []
        for values, vectors in (half, full):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=values is half[0]):
                losses.append(function(values, labels, matrix, temperature=0.1, pixel_embeddings=vectors))
        assert losses[0].dtype == torch.float32
        assert losses[0].item() == losses[1].item()
        for ours, theirs in zip(gradients(losses[0], *half), gradients(losses[1], *full)):
            assert ours.dtype == dtype
            torch.testing.assert_close(ours, theirs.to(dtype))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_layouts_and_label_types(layout):
    logits, labels, matrix, _ = example(features=(4, 6), size=(12, 10))
    expected = property_cosine_loss(logits, labels, matrix, temperature=0.1)
    strided = logits.detach().to(memory_format=layout).requires_grad_()
    for kind in (torch.uint8, torch.int16, torch.int32):
        loss = property_cosine_loss(strided, labels.to(kind), matrix.double(), temperature=0.1)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(
            *gradients(loss, strided),
            *gradients(property_cosine_loss(logits, labels, matrix, temperature=0.1), logits),
        )


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_threads_change_nothing_and_stay_as_they_were(batch):
    logits, labels, matrix, embeddings = example(batch=batch, features=(24, 5), size=(96, 20))
    options = dict(temperature=0.1, pixel_embeddings=embeddings)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3, 3):
            torch.set_num_threads(count)
            loss = property_cosine_loss(logits, labels, matrix, **options)
            results.append([loss.detach(), *gradients(loss, logits, embeddings)])
            with torch.inference_mode():
                torch.testing.assert_close(
                    property_cosine_loss(logits.detach(), labels, matrix, **options), loss.detach()
                )
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for one, several, again in zip(*results):
        torch.testing.assert_close(one, several, rtol=1e-5, atol=1e-7)
        assert torch.equal(several, again)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_and_several_heads(reentrant):
    logits, labels, matrix, _ = example()

    def loss(values):
        main = property_cosine_loss(values, labels, matrix, temperature=0.1)
        return main + 0.4 * property_cosine_loss(values * 2, labels[:, ::2], matrix, temperature=0.1)

    expected = gradients(loss(logits), logits)[0]
    saved = checkpoint(loss, logits, use_reentrant=reentrant)
    saved.backward()
    torch.testing.assert_close(logits.grad, expected)


def test_compiles_into_one_graph():
    logits, labels, matrix, embeddings = example()

    def loss(values, vectors):
        total = property_cosine_loss(values * 2, labels, matrix, temperature=0.1, pixel_embeddings=vectors)
        total = total + property_regression_loss(values, labels, matrix, temperature=0.1)
        return total + class_cross_entropy_loss(values, labels % 5)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected, found = loss(logits, embeddings), compiled(logits, embeddings)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(gradients(found, logits, embeddings), gradients(expected, logits, embeddings)):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(compiled(logits, embeddings), expected.detach())


def test_operators_keep_the_contract_of_torch():
    logits, labels, matrix, embeddings = example(features=(2, 3), size=(4, 5))
    from prolab_hf.model import loss_operators_prolab

    rows = class_rows(labels, 4, 255)
    table = torch.cat([matrix, torch.zeros(1, 5)])
    scale = torch.rand(rows.shape, requires_grad=True)
    checks = ("test_schema", "test_faketensor")
    arguments = logits, rows, table, scale, None, "sigmoid_cosine", 2.0, 0.0, False, True
    torch.library.opcheck(loss_operators_prolab._streamed_loss, arguments, test_utils=checks)
    torch.library.opcheck(loss_operators_prolab.class_rows, (labels, 4, 255), test_utils=checks)
    torch.library.opcheck(loss_operators_prolab.neighbor_products, (embeddings,), test_utils=checks)


def test_shapes_on_the_meta_device():
    logits, labels, matrix, _ = (tensor.to("meta") for tensor in example())
    loss = property_cosine_loss(logits, labels, matrix, temperature=0.1)
    assert loss.shape == () and loss.device.type == "meta"


def test_a_second_copy_of_the_module_can_be_loaded():
    """Remote code brings its own copy beside the package: operator names must not clash."""
    folder = Path(streaming_prolab.__file__).parent
    names = ["resize", "loss_kernels", "loss_streaming", "loss_operators", "pixel_weights", "loss"]
    package = importlib.util.module_from_spec(
        importlib.machinery.ModuleSpec("copy_of_model", None, is_package=True)
    )
    package.__path__ = [str(folder)]
    sys.modules["copy_of_model"] = package
    try:
        copy = importlib.import_module("copy_of_model.loss_prolab")
        assert copy.property_cosine_loss is not property_cosine_loss
        logits, labels, matrix, _ = example()
        for function in (copy.property_cosine_loss, property_cosine_loss):
            loss = function(logits, labels, matrix, temperature=0.1)
            assert gradients(loss, logits)[0].abs().max() > 0
    finally:
        for name in ["copy_of_model", *(f"copy_of_model.{name}_prolab" for name in names)]:
            sys.modules.pop(name, None)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that an operation returned."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_no_tensor_at_label_resolution():
    logits, labels, _, _ = example(batch=1, properties=64, features=(32, 32), size=(512, 256))
    inputs = StreamInputs(
        logits.detach(), class_rows(labels, 4, 255), torch.zeros(5, 64), None, "sigmoid_cosine", 1.0, False
    )
    collected = StreamGradients(torch.zeros_like(inputs.logits), None)
    with torch.no_grad(), LargestTensor() as largest:
        stream_rows(inputs, collected)
    full = 64 * 512 * 256
    assert largest.elements <= full / 15
