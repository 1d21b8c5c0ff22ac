"""Small networks of every family, trained for seconds on drawn scenes: adapting is tested on networks that know something."""

import numpy as np
import torch
from transformers import (
    BeitConfig,
    BeitForSemanticSegmentation,
    BeitImageProcessorPil,
    ConvNextConfig,
    Data2VecVisionConfig,
    Data2VecVisionForSemanticSegmentation,
    DPTConfig,
    DPTForSemanticSegmentation,
    DPTImageProcessorPil,
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2ImageProcessorPil,
    MobileViTConfig,
    MobileViTForSemanticSegmentation,
    MobileViTImageProcessorPil,
    ResNetConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from prolab_hf.data.scenes import SCENE_CLASSES, DrawnScenes

SIZE = 64
STAGES = ["stage1", "stage2", "stage3", "stage4"]
LABELS = {
    "id2label": dict(enumerate(SCENE_CLASSES)),
    "label2id": {name: index for index, name in enumerate(SCENE_CLASSES)},
}


def segformer():
    config = SegformerConfig(
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=32,
        **LABELS,
    )
    processor = SegformerImageProcessorPil(do_resize=False)
    return SegformerForSemanticSegmentation(config), processor


def _upernet(backbone, channels):
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=32,
        auxiliary_channels=8,
        auxiliary_in_channels=channels,
        pool_scales=[1, 2],
        **LABELS,
    )
    return UperNetForSemanticSegmentation(config), SegformerImageProcessorPil(do_resize=False)


def upernet_resnet():
    return _upernet(
        ResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 24, 32, 48],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=STAGES,
        ),
        32,
    )


def upernet_convnext():
    return _upernet(
        ConvNextConfig(hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], out_features=STAGES), 32
    )


def _plain_transformer():
    return {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": SIZE,
        "patch_size": 16,
        **LABELS,
    }


def beit():
    config = BeitConfig(out_indices=[1, 2, 3, 4], use_relative_position_bias=True, **_plain_transformer())
    processor = BeitImageProcessorPil(
        do_resize=False, do_center_crop=False, do_reduce_labels=True, size={"height": SIZE, "width": SIZE}
    )
    return BeitForSemanticSegmentation(config), processor


def data2vec():
    config = Data2VecVisionConfig(
        out_indices=[1, 2, 3, 4], use_relative_position_bias=True, **_plain_transformer()
    )
    processor = BeitImageProcessorPil(do_resize=False, do_center_crop=False)
    return Data2VecVisionForSemanticSegmentation(config), processor


def dpt():
    config = DPTConfig(
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 24, 24],
        fusion_hidden_size=24,
        is_hybrid=False,
        **_plain_transformer(),
    )
    return DPTForSemanticSegmentation(config), DPTImageProcessorPil(do_resize=False)


def mobilevit():
    config = MobileViTConfig(
        image_size=SIZE,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 16, 16, 24, 24, 32, 48],
        aspp_out_channels=32,
        num_attention_heads=2,
        output_stride=8,
        **LABELS,
    )
    processor = MobileViTImageProcessorPil(do_resize=False, crop_size={"height": SIZE, "width": SIZE})
    return MobileViTForSemanticSegmentation(config), processor


def mobilenet():
    config = MobileNetV2Config(image_size=SIZE, depth_multiplier=0.25, output_stride=8, **LABELS)
    processor = MobileNetV2ImageProcessorPil(do_resize=False, crop_size={"height": SIZE, "width": SIZE})
    return MobileNetV2ForSemanticSegmentation(config), processor


FAMILIES = {
    function.__name__: function
    for function in (segformer, upernet_resnet, upernet_convnext, beit, data2vec, dpt, mobilevit, mobilenet)
}


def scenes(split, number):
    return DrawnScenes(split, number, size=(SIZE, SIZE))


def train(network, processor, *, steps=80, batch_size=8, learning_rate=5e-3):
    """Trains in place by cross-entropy at the size of the logits."""
    source = scenes("train", 160)
    samples = [source[index] for index in range(len(source))]
    pixels = torch.cat(
        [processor(images=each.image, return_tensors="pt")["pixel_values"] for each in samples]
    )
    labels = torch.from_numpy(np.stack([each.mask for each in samples])).long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(pixels), (batch_size,), generator=generator)
        logits = network(pixels[chosen]).logits
        logits = torch.nn.functional.interpolate(logits, (SIZE, SIZE), mode="bilinear")
        loss = torch.nn.functional.cross_entropy(logits, labels[chosen], ignore_index=255)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return network.eval()
