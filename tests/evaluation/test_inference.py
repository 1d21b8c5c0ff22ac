"""Segmenting images: equal to the pipeline, to the plain formula, and robust against odd images."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import pipeline

from prolab_hf import ProLabImageProcessor, ProLabImageProcessorPil
from prolab_hf.evaluation.inference import InferenceSettings, segment
from prolab_hf.evaluation.sliding_window import slide_logits


def pixel_values(processor, image, **kwargs):
    return processor(images=image, return_tensors="pt", **kwargs)["pixel_values"]


@torch.no_grad()
def plain_probabilities(model, pixels, size, *, slide=False):
    """The published order on whole maps: logits, (window average,) resize, softmax."""
    run = lambda x: model(pixel_values=x).logits  # noqa: E731
    logits = slide_logits(run, pixels, (48, 64), (32, 40)) if slide else run(pixels)
    return F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(dim=1)[0]


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2"])
def test_whole_mode_gives_the_labels_of_the_pipeline(make_model, processor, image, similarity):
    model = make_model(similarity)
    result = segment(model, processor, image)
    assert result.labels.shape == (97, 131) and result.labels.dtype == torch.int64
    assert result.scores is None
    found = pipeline("image-segmentation", model=model, image_processor=processor)(image)
    assert len(found) > 1
    for entry in found:
        np.testing.assert_array_equal(np.asarray(entry["mask"]) > 0, result.mask(entry["label"]).numpy())
    assert {entry["label"] for entry in found} == {name for name, _ in result.shares()}


@pytest.mark.parametrize("slide", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_scores_are_the_plain_formula(model, processor, image, slide, flip):
    pixels = pixel_values(processor, image)
    expected = plain_probabilities(model, pixels, (97, 131), slide=slide)
    if flip:
        mirrored = plain_probabilities(model, pixels.flip(-1), (97, 131), slide=slide).flip(-1)
        expected = (expected + mirrored) / 2
    options = {"mode": "slide", "crop_size": (48, 64), "stride": (32, 40)} if slide else {}
    result = segment(model, processor, image, flip=flip, return_scores=True, **options)
    torch.testing.assert_close(result.scores, expected, rtol=0, atol=1e-6)
    assert torch.equal(result.labels, result.scores.argmax(dim=0))
    assert torch.equal(segment(model, processor, image, flip=flip, **options).labels, result.labels)


def test_scales_average_images_processed_at_other_sizes(model, processor, image):
    result = segment(model, processor, image, scales=(1.0, 1.5), return_scores=True)
    height, width = pixel_values(processor, image).shape[-2:]
    larger = {"height": round(height * 1.5 / 32) * 32, "width": round(width * 1.5 / 32) * 32}
    expected = [
        plain_probabilities(model, pixel_values(processor, image), (97, 131)),
        plain_probabilities(model, pixel_values(processor, image, size=larger), (97, 131)),
    ]
    torch.testing.assert_close(result.scores, (expected[0] + expected[1]) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"mode": "slide", "crop_size": 500, "stride": 300}, {"resize_twice": True}],
    ids=["slide", "whole"],
)
def test_published_order_goes_over_the_processed_size(model, processor, image, options):
    slide = segment(model, processor, image, return_scores=True, **options)
    pixels = pixel_values(processor, image)
    with torch.no_grad():
        logits = F.interpolate(model(pixel_values=pixels).logits, pixels.shape[-2:], mode="bilinear")
    expected = F.interpolate(logits, (97, 131), mode="bilinear").softmax(dim=1)[0]
    torch.testing.assert_close(slide.scores, expected, rtol=0, atol=1e-6)


def test_default_window_is_the_training_size_and_two_thirds_of_it(processor):
    assert InferenceSettings(mode="slide").window(processor) == ((64, 64), (42, 42))
    assert InferenceSettings(mode="slide", crop_size=768).window(None) == ((768, 768), (512, 512))
    with pytest.raises(ValueError, match="needs crop_size"):
        InferenceSettings(mode="slide").window(object())


@pytest.mark.parametrize("processor_class", [ProLabImageProcessor, ProLabImageProcessorPil])
def test_window_travels_with_the_processor(processor_class, tmp_path):
    processor_class(crop_size=768, stride=[512, 500]).save_pretrained(tmp_path)
    loaded = processor_class.from_pretrained(tmp_path)
    assert InferenceSettings(mode="slide").window(loaded) == ((768, 768), (512, 500))
    # Another window has its own step: two thirds of it, not the step that was made for the processor's.
    assert InferenceSettings(mode="slide", crop_size=90).window(loaded) == ((90, 90), (60, 60))
    for wrong in (0, [512, -1], [1, 2, 3], "512"):
        with pytest.raises((ValueError, TypeError), match="crop_size"):
            processor_class(crop_size=wrong)(Image.new("RGB", (40, 30)))


def test_model_keeps_its_mode_and_gradients_stay_possible(model, processor, image):
    model.train()
    try:
        with torch.enable_grad():
            segment(model, processor, image)
            assert model.training and torch.is_grad_enabled()
    finally:
        model.eval()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_any_kind_of_image(model, processor, image, mode):
    converted = image.convert("RGB").convert(mode)
    result = segment(model, processor, converted)
    assert torch.equal(result.labels, segment(model, processor, converted.convert("RGB")).labels)


def test_path_array_and_tiny_image(model, processor, image, tmp_path):
    image.save(tmp_path / "a.png")
    expected = segment(model, processor, image).labels
    assert torch.equal(segment(model, processor, tmp_path / "a.png").labels, expected)
    assert torch.equal(segment(model, processor, str(tmp_path / "a.png")).labels, expected)
    assert torch.equal(segment(model, processor, np.asarray(image)).labels, expected)
    assert segment(model, processor, image.resize((3, 2))).labels.shape == (2, 3)


def test_photo_on_its_side_is_turned_upright(model, processor, image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    found = segment(model, processor, tmp_path / "turned.png").labels
    assert torch.equal(found, segment(model, processor, upright).labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sliding"}, "'sliding'; it must be 'whole' or 'slide'"),
        ({"crop_size": 64}, "belong to mode='slide'"),
        ({"mode": "slide", "crop_size": 0}, "crop_size is 0"),
        ({"mode": "slide", "crop_size": 32, "stride": 40}, r"stride \(40, 40\) does not fit"),
        ({"scales": ()}, r"scales is \(\)"),
        ({"scales": (1.0, -2.0)}, "positive factor"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_wrong_options_are_named(model, processor, image, options, message):
    with pytest.raises(ValueError, match=message):
        segment(model, processor, image, **options)


def test_wrong_images_are_named(model, processor, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        segment(model, processor, tmp_path / "broken.jpg")
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        segment(model, processor, tmp_path / "absent.jpg")
    with pytest.raises(ValueError, match=r"shape \(4, 4, 3\) and type float32"):
        segment(model, processor, np.zeros((4, 4, 3), np.float32))
    with pytest.raises(TypeError, match="received Tensor"):
        segment(model, processor, torch.zeros(3, 4, 4))
    with pytest.raises(TypeError, match="step"):
        segment(model, processor, Image.new("RGB", (8, 8)), step=3)


def test_questions_to_a_segmentation(model, processor, image):
    result = segment(model, processor, image)
    shares = result.shares()
    assert sum(share for _, share in shares) == pytest.approx(1, abs=1e-5)
    assert [share for _, share in shares] == sorted((share for _, share in shares), reverse=True)
    assert result.class_at(130, 96) == result.class_names[int(result.labels[96, 130])]
    with pytest.raises(ValueError, match=r"\(131, 0\) lies outside of the image of 131 x 97"):
        result.class_at(131, 0)
    with pytest.raises(ValueError, match="no class 'cow'; the classes are sky"):
        result.mask("cow")


def test_a_model_whose_first_weights_are_integers_segments(make_model, processor, image):
    """Quantized weights are integers; images must not be brought to their type."""
    model = make_model()
    expected = segment(model, processor, image).labels
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    class Rounded(torch.nn.Module):
        def forward(self, values, scale):
            return values * scale

        def right_inverse(self, weight):
            scale = weight.abs().amax() / 32767
            return (weight / scale).round().to(torch.int16), scale

    convolution = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    torch.nn.utils.parametrize.register_parametrization(convolution, "weight", Rounded())
    assert not next(model.parameters()).is_floating_point()
    assert (segment(model, processor, image).labels == expected).float().mean() > 0.98
