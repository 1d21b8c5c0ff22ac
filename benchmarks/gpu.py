"""What a GPU makes of the loss, a training step and inference, in five minutes; and which blocks suit it.

    python benchmarks/gpu.py                  # on the GPU that is there
    python benchmarks/gpu.py --smoke          # tiny, on whatever is there: does it run?

- Loss: streamed against plain torch, in float32 and bfloat16, and streamed with several sizes of block. Where the plain
  loss is faster, `ProLabConfig(loss_implementation="plain")` is what to train with, and the script says so; the fastest
  size of block is what `GPU_BLOCK_ELEMENTS` in `prolab_hf/model/loss_streaming_prolab.py` should be.
- Training step and inference: property supervision against a category head as everybody writes it, in float32, under
  bfloat16 autocast, and with `torch.compile`; time and peak memory.

Times are medians after warming up, with the device synchronized. Nothing here has been run on a GPU yet.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from category_model import PlainCategoryModel
from measuring import environment, print_table
from torch import Tensor, nn
from torch.nn import functional
from transformers import ConvNextConfig

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace
from prolab_hf.model import loss_streaming_prolab as streaming
from prolab_hf.model.loss_plain_prolab import plain_property_cosine_loss
from prolab_hf.model.loss_prolab import property_cosine_loss

VOID = 255
BLOCKS = (18, 20, 22, 24, 26, 28)
"""Powers of two: elements of a block."""


@dataclass(frozen=True)
class Measured:
    """What a function took.

    Attributes:
        seconds: Median.
        mebibytes: Peak of memory above what there was; `None` on a CPU.
    """

    seconds: float
    mebibytes: float | None

    def cells(self, base: "Measured") -> list[str]:
        """Time, how many times as fast as something else, and memory."""
        memory = "-" if self.mebibytes is None else f"{self.mebibytes:,.0f}"
        return [f"{1000 * self.seconds:.2f}", f"{base.seconds / self.seconds:.2f}", memory]


class Bench:
    """Measures functions on a device within a time.

    Args:
        options: Device, sizes, seconds per function.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def measure(self, function: Callable[[], object]) -> Measured:
        """Median time and peak memory of a function that is warm."""
        for _ in range(self.options.warm_up):
            function()
        self.synchronize()
        before = 0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        times: list[float] = []
        while sum(times) < self.options.seconds or len(times) < 3:
            started = time.perf_counter()
            function()
            self.synchronize()
            times.append(time.perf_counter() - started)
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if self.device.type == "cuda" else None
        return Measured(statistics.median(times), peak)

    # ---- loss ---------------------------------------------------------------------------------------------

    def loss_inputs(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        options, generator = self.options, torch.Generator().manual_seed(0)
        side = options.size // 4
        logits = torch.randn(options.batch, options.properties, side, side, generator=generator)
        matrix = (torch.rand(options.classes, options.properties, generator=generator) < 0.1).float()
        logits = logits.to(self.device, dtype).requires_grad_()
        return logits, labels_of(options, generator).to(self.device), matrix.to(self.device)

    def losses(self) -> None:
        """Prints the tables of the loss, and what follows from them."""
        found: dict[tuple[str, str], Measured] = {}
        for dtype in (torch.float32, torch.bfloat16):
            logits, labels, matrix = self.loss_inputs(dtype)
            for name, loss in (("plain", plain_property_cosine_loss), ("streamed", property_cosine_loss)):

                def step(
                    loss: Callable[..., Tensor] = loss, inputs: tuple = (logits, labels, matrix)
                ) -> None:
                    inputs[0].grad = None
                    loss(*inputs, temperature=0.04).backward()

                found[str(dtype).removeprefix("torch."), name] = self.measure(step)
        rows = [[kind, name, *value.cells(found[kind, "plain"])] for (kind, name), value in found.items()]
        print_table(["loss, forward and backward", "", "ms", "times as fast as plain", "peak MiB"], rows)
        for kind in ("float32", "bfloat16"):
            faster = found[kind, "streamed"].seconds <= found[kind, "plain"].seconds
            verdict = "the streamed loss is the faster one" if faster else (
                'the PLAIN loss is faster: train with ProLabConfig(loss_implementation="plain"), and make it the '
                "default of GPUs"
            )  # fmt: skip
            print(f"{kind}: {verdict}.")

    def blocks(self) -> None:
        """Prints how the size of a block matters to the streamed loss."""
        logits, labels, matrix = self.loss_inputs(torch.float32)

        def step() -> None:
            logits.grad = None
            property_cosine_loss(logits, labels, matrix, temperature=0.04).backward()

        before, found = streaming.GPU_BLOCK_ELEMENTS, dict[int, Measured]()
        try:
            for power in BLOCKS:
                streaming.GPU_BLOCK_ELEMENTS = 2**power
                found[power] = self.measure(step)
        finally:
            streaming.GPU_BLOCK_ELEMENTS = before
        now = found.get(before.bit_length() - 1, found[BLOCKS[0]])
        rows = [[f"2^{power}", *value.cells(now)] for power, value in found.items()]
        print_table(
            ["elements of a block", "ms", f"times as fast as 2^{before.bit_length() - 1}", "peak MiB"], rows
        )
        best = min(found, key=lambda power: found[power].seconds)
        used = "" if self.device.type == "cuda" else " (a CPU takes other blocks: this says nothing)"
        print(f"Fastest: GPU_BLOCK_ELEMENTS = 2**{best}{used}.")

    # ---- networks -----------------------------------------------------------------------------------------

    def model(self, kind: type[nn.Module]) -> nn.Module:
        options = self.options
        torch.manual_seed(0)
        names = [f"class {number}" for number in range(options.classes)]
        density = min(0.25, 10 / options.properties)
        space = PropertySpace.random_codes(names, num_properties=options.properties, density=density)
        space = space.replace(property_embeddings=torch.randn(options.properties, options.embedding_dim))
        stages = ["stage1", "stage2", "stage3", "stage4"]
        backbone = ConvNextConfig(
            hidden_sizes=options.hidden_sizes, depths=options.depths, out_features=stages
        )
        width = {"hidden_size": options.hidden_size, "auxiliary_channels": options.hidden_size // 2}
        return kind.from_backbone(backbone, space, pretrained=False, **width).to(self.device)

    def variants(self) -> dict[str, tuple[type[nn.Module], bool, bool]]:
        """Kind of model, bfloat16, compiled."""
        found = {}
        for name, kind in (
            ("category, plain torch", PlainCategoryModel),
            ("property", ProLabForSemanticSegmentation),
        ):
            found[f"{name}, float32"] = (kind, False, False)
            found[f"{name}, bfloat16"] = (kind, True, False)
        if self.options.compile:
            found["property, bfloat16, compiled"] = (ProLabForSemanticSegmentation, True, True)
        return found

    def precision(self, half: bool) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()

    def networks(self, task: str) -> None:
        """Prints the table of training steps or of inference."""
        options, found = self.options, dict[str, Measured]()
        labels = labels_of(options, torch.Generator().manual_seed(1)).to(self.device)
        images = torch.randn(options.batch, 3, options.size, options.size, device=self.device)
        for name, (kind, half, compiled) in self.variants().items():
            model = self.model(kind)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
            called = torch.compile(model) if compiled else model
            model.train(task == "train")

            def train(
                called: nn.Module = called, half: bool = half, optimizer: torch.optim.Optimizer = optimizer
            ) -> None:
                with self.precision(half):
                    loss = called(pixel_values=images, labels=labels).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

            @torch.no_grad()
            def infer(called: nn.Module = called, half: bool = half) -> None:
                with self.precision(half):
                    logits = called(pixel_values=images).logits
                functional.interpolate(logits.float(), scale_factor=4, mode="bilinear").argmax(1)

            found[name] = self.measure(train if task == "train" else infer)
            del model, optimizer, called
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        base = found["category, plain torch, float32"]
        words = {"train": "training step", "infer": "from images to labels"}[task]
        rows = [[name, *value.cells(base)] for name, value in found.items()]
        print_table(
            [
                f"{words}, {options.batch} x {options.size} x {options.size}",
                "ms",
                "times as fast",
                "peak MiB",
            ],
            rows,
        )


def labels_of(options: argparse.Namespace, generator: torch.Generator) -> Tensor:
    """Regions of classes with a tenth of void, `(batch, size, size)`."""
    coarse = torch.randint(options.classes, (options.batch, 1, 16, 16), generator=generator).float()
    labels = functional.interpolate(coarse, size=(options.size, options.size)).long()[:, 0]
    labels[:, : options.size // 10] = VOID
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--properties", type=int, default=256)
    parser.add_argument("--embedding-dim", type=int, default=768)
    parser.add_argument("--hidden-size", type=int, default=512, help="width of the decoder")
    parser.add_argument("--seconds", type=float, default=3.0, help="per function")
    parser.add_argument("--warm-up", type=int, default=3, help="calls that are not timed")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    options.hidden_sizes, options.depths = [96, 192, 384, 768], [3, 3, 9, 3]
    if options.smoke:
        options.batch, options.size, options.classes, options.properties = 2, 64, 5, 8
        options.embedding_dim, options.hidden_size, options.seconds, options.warm_up = 16, 16, 0.0, 1
        options.hidden_sizes, options.depths = [8, 16, 24, 32], [1, 1, 1, 1]
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else "no GPU: on the CPU"
    print(f"{name}, {environment()}")
    bench = Bench(options)
    for table in (
        bench.losses,
        bench.blocks,
        lambda: bench.networks("train"),
        lambda: bench.networks("infer"),
    ):
        print(flush=True)
        table()


if __name__ == "__main__":
    main()
