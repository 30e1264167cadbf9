"""The package `sam2` on random weights: the numbers of transformers on the same ones, and of the package alone."""

import re
import sys
from collections.abc import Callable
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torch.nn import functional

from models.segmenters import SAM2PackageSegmenter, SAM2Segmenter
from models.segmenters.base import Prompt, Segmenter
from tests.models.contract import CHECKS, check_boxes_without_pixels
from tests.models.test_sam2 import ARGUMENTS, EVERY, PROMPTS, SQUARE, WIDE, H, T, W, calls, prompt

#: the package's configuration that is made smaller
RELEASES = {"2.1": "configs/sam2.1/sam2.1_hiera_t.yaml", "2.0": "configs/sam2/sam2_hiera_t.yaml"}
#: what makes the package's tiny network the still smaller one of configs/demo/sam2_tiny.yaml …
SMALLER: dict[str, Any] = {
    "image_encoder": {
        "trunk": {"embed_dim": 16, "stages": [1, 1, 2, 1], "global_att_blocks": [3], "window_spec": [8, 4, 8, 4]},
        "neck": {
            "d_model": 128,
            "backbone_channel_list": [128, 64, 32, 16],
            "position_encoding": {"num_pos_feats": 128},
        },
    },
    "memory_attention": {
        "d_model": 128,
        "num_layers": 1,
        "layer": {
            "d_model": 128,
            "dim_feedforward": 64,
            "self_attention": {"embedding_dim": 128, "feat_sizes": [8, 8]},
            "cross_attention": {"embedding_dim": 128, "feat_sizes": [8, 8]},
        },
    },
    "memory_encoder": {
        "in_dim": 128,
        "mask_downsampler": {"embed_dim": 128},
        "fuser": {"num_layers": 1, "layer": {"dim": 128}},
    },
    "num_maskmem": 4,
    "image_size": 128,
}
#: … and what makes that one the same, because these numbers are in the package's code
FIXED = {
    "mask_decoder_config": {"mlp_dim": 2048, "num_attention_heads": 8, "iou_head_hidden_dim": 256},
    "prompt_encoder_config": {"mask_input_channels": 16},
}
SEEDS = {"2.1": 0, "2.0": 1}  # of weights that see objects on some frames and not on others
SIDE = SMALLER["image_size"]

#: names of the package -> names of transformers, in this order
NAMES = [
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"^sam_(mask_decoder|prompt_encoder)\.", r"\1."),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"mask_downscaling\.([036])\.", lambda m: f"mask_embed.conv{int(m[1]) // 3 + 1}."),
    (r"mask_downscaling\.([14])\.", lambda m: f"mask_embed.layer_norm{int(m[1]) // 3 + 1}."),
    (r"output_upscaling\.([03])\.", lambda m: f"upscale_conv{int(m[1]) // 3 + 1}."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"mask_downsampler\.encoder\.12\.", "mask_downsampler.final_conv."),
    (
        r"mask_downsampler\.encoder\.(\d+)\.",
        lambda m: f"mask_downsampler.layers.{int(m[1]) // 3}.{('conv', 'layer_norm')[int(m[1]) % 3]}.",
    ),
    (r"(mlp)\.layers\.([01])\.", lambda m: f"{m[1]}.{('proj_in', 'proj_out')[int(m[2])]}."),
    (
        r"(iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.\d|obj_ptr_proj)\.layers\.([012])\.",
        lambda m: f"{m[1]}.{('proj_in', 'layers.0', 'proj_out')[int(m[2])]}.",
    ),
    (r"memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"\bfuser\.", "memory_fuser."),
    (r"\bgamma$", "scale"),
    (r"\b(dw|pw)conv", lambda m: {"dw": "depthwise_conv", "pw": "pointwise_conv"}[m[1]]),
    (r"\bout_proj\.", "o_proj."),
    (r"\.norm", ".layer_norm"),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"\b(no_)?obj_ptr", r"\1object_pointer"),
]


def name_in_transformers(name: str) -> str:
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def sam2() -> ModuleType:
    return pytest.importorskip("sam2.build_sam", reason="needs the package sam2: make sam2")


def settings(release: str) -> dict[str, Any]:
    own = OmegaConf.load(str(files(sam2().__package__) / RELEASES[release])).model
    return OmegaConf.to_container(OmegaConf.merge(own, SMALLER))


def theirs(release: str, released: bool = False) -> SAM2Segmenter:
    """The same network in transformers; noise on the weights, because some of them begin as zeros."""
    # Half as wide as the demo's: from there on, a difference in the last bit grows from frame to frame.
    config: dict[str, Any] = deepcopy(ARGUMENTS["config"]) | {"initializer_range": 0.1}
    for part, numbers in FIXED.items():
        config[part] |= numbers
    config["memory_fuser_intermediate_dim"] = 4 * config["memory_fuser_embed_dim"]
    for switch in ("enable_temporal_pos_encoding_for_object_pointers", "enable_occlusion_spatial_embedding"):
        config[switch] = release == "2.1"
    segmenter = SAM2Segmenter(config=config, seed=SEEDS[release], released=released)
    generator = torch.Generator().manual_seed(SEEDS[release])
    for weight in segmenter.model.parameters():
        weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
    network = segmenter.model
    network.shared_image_embedding.load_state_dict(network.prompt_encoder.shared_embedding.state_dict())
    return segmenter


def original(release: str, own: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of transformers under the names of the package."""
    from hydra.utils import instantiate

    weights = theirs(release).model.state_dict()
    points = weights.pop("prompt_encoder.point_embed.weight").split(1)
    weights |= {f"prompt_encoder.point_embeddings.{label}.weight": row for label, row in enumerate(points)}
    del weights["shared_image_embedding.positional_embedding"]  # a copy of the prompt encoder's
    names = instantiate(own).state_dict()
    renamed = {name: weights.pop(name_in_transformers(name)) for name in names}
    assert not weights, "nothing of transformers is left without a name in the package"
    return renamed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the form of the original repository for each release."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for release in RELEASES:
        torch.save({"model": original(release, settings(release))}, folder / f"{release}.pt")
    return folder


def ours(folder: Path, release: str = "2.1", **arguments: Any) -> SAM2PackageSegmenter:
    return SAM2PackageSegmenter(str(folder / f"{release}.pt"), settings(release), **arguments)


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> SAM2PackageSegmenter:
    return ours(folder)


@pytest.fixture(scope="module")
def released(folder: Path) -> SAM2PackageSegmenter:
    return ours(folder, released=True)


@pytest.fixture
def exact_memories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both implementations round memories to bfloat16, which makes a difference in the last bit a large one."""
    monkeypatch.setattr(torch, "bfloat16", torch.float32)


def video(height: int = H, width: int = W) -> Tensor:
    return torch.randint(0, 256, (T, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def logits(segmenter: SAM2PackageSegmenter | SAM2Segmenter, frames: Tensor, asked: Prompt) -> Tensor:
    """`float (T, M, 1, h, w)`"""
    with torch.no_grad():
        by_frame = segmenter.track(segmenter.encode(frames), asked, EVERY)
    return torch.stack([by_frame[time] for time in EVERY])


@pytest.mark.parametrize("check", CHECKS)
def test_contract(segmenter: SAM2PackageSegmenter, check: Callable[[Segmenter], None]) -> None:
    check(segmenter)


@pytest.mark.parametrize("check", [check for check in CHECKS if check is not check_boxes_without_pixels])
def test_contract_of_released(released: SAM2PackageSegmenter, check: Callable[[Segmenter], None]) -> None:
    check(released)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("one_state", [False, True], ids=["default", "released"])
@pytest.mark.usefixtures("exact_memories")
def test_logits_equal_transformers(folder: Path, release: str, one_state: bool) -> None:
    package, other = ours(folder, release, released=one_state), theirs(release, one_state)
    for asked in PROMPTS.values():
        found, expected = logits(package, video(), asked), logits(other, video(), asked)
        assert 0.01 < (found > 0).float().mean() < 0.99
        # Logits reach 3, and 5 % more on any weight that they depend on moves some by 1e-4.
        assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("one_state", [False, True], ids=["default", "released"])
def test_masks_equal_transformers(folder: Path, release: str, one_state: bool) -> None:
    package, other = ours(folder, release, released=one_state), theirs(release, one_state)
    asked = list(PROMPTS.values())
    for found, expected in zip(package(video(), asked, EVERY), other(video(), asked, EVERY), strict=True):
        assert (found != expected).float().mean() < 2e-4  # memories are rounded to bfloat16


def plain(segmenter: SAM2PackageSegmenter, pictures: Path, asked: Prompt, one_state: bool) -> Tensor:
    """`float (T, M, 1, H, W)` from the package alone: frames from a folder, features when they are needed."""
    by_frame, state = {}, None
    for reverse in (False, True):
        if state is None or not one_state:
            state = segmenter.model.init_state(str(pictures))
            for index, box in enumerate(asked.boxes):
                points, labels = (None if part is None else part[index] for part in (asked.points, asked.labels))
                segmenter.model.add_new_points_or_box(state, asked.frame, index, points, labels, box=box)
        steps = segmenter.model.propagate_in_video(state, asked.frame, reverse=reverse)
        by_frame |= {time: video_logits for time, _, video_logits in steps}
    return torch.stack([by_frame[time] for time in EVERY])


@pytest.mark.parametrize("one_state", [False, True], ids=["default", "released"])
@pytest.mark.usefixtures("exact_memories")
def test_logits_equal_the_package_alone(
    segmenter: SAM2PackageSegmenter, released: SAM2PackageSegmenter, one_state: bool, tmp_path: Path
) -> None:
    frames = video(SIDE, SIDE)  # frames of the network's size are resized by neither
    for time, frame in enumerate(frames):
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(tmp_path / f"{time}.jpg", format="PNG")  # without loss
    one = released if one_state else segmenter
    for asked in PROMPTS.values():
        found = torch.stack([functional.interpolate(low, SIDE, mode="bilinear") for low in logits(one, frames, asked)])
        assert (found - plain(one, tmp_path, asked, one_state)).abs().max() < 1e-5


def test_directions_share_nothing_unless_released(
    segmenter: SAM2PackageSegmenter, released: SAM2PackageSegmenter
) -> None:
    found, other = (logits(one, video(), PROMPTS["middle"]) for one in (segmenter, released))
    assert torch.equal(found[3:], other[3:])
    assert all(not torch.equal(found[time], other[time]) for time in range(2))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_frames_are_encoded_once_for_all_prompts(folder: Path, batch_size: int) -> None:
    segmenter = ours(folder, encode_batch_size=batch_size)
    with calls(segmenter.model.image_encoder) as sizes:
        segmenter(video(), list(PROMPTS.values()), EVERY)
    assert sum(sizes) == T
    assert max(sizes) == batch_size


def test_identical_prompts_run_once(segmenter: SAM2PackageSegmenter) -> None:
    with calls(segmenter.model.sam_mask_decoder) as decoded:
        masks = segmenter(video(), [prompt(3, SQUARE, WIDE), prompt(3, SQUARE, WIDE)], [2, 3, 5])
    assert len(decoded) == 2 * (2 + 3)  # two objects: prompted and two frames on, prompted again and one frame back
    assert torch.equal(*masks)


def test_a_checkpoint_becomes_a_frozen_network(
    folder: Path, segmenter: SAM2PackageSegmenter, capfd: pytest.CaptureFixture[str]
) -> None:
    segmenter(video(), [prompt(3, SQUARE)], [0])
    assert "propagate" not in capfd.readouterr().err, "a bar was drawn"
    saved = torch.load(folder / "2.1.pt", weights_only=True)["model"]
    held = segmenter.model.state_dict()
    assert held.keys() == saved.keys()
    assert all(torch.equal(held[name], weight) for name, weight in saved.items())
    assert not segmenter.model.training
    assert not any(weight.requires_grad for weight in segmenter.model.parameters())


def test_building_draws_nothing_from_the_run(folder: Path) -> None:
    state = torch.get_rng_state()
    assert not ours(folder).model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_autocast_around_the_call_changes_nothing(segmenter: SAM2PackageSegmenter) -> None:
    expected = segmenter(video(), [PROMPTS["middle"]], EVERY)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(segmenter(video(), [PROMPTS["middle"]], EVERY)[0], expected)


def test_bfloat16_is_autocast(folder: Path, segmenter: SAM2PackageSegmenter) -> None:
    rounded = ours(folder, dtype="bfloat16")
    found, exact = (one(video(), [PROMPTS["points"]], EVERY)[0] for one in (rounded, segmenter))
    with torch.autocast("cpu", torch.bfloat16):
        low = logits(segmenter, video(), PROMPTS["points"])
    resized = torch.stack([functional.interpolate(one.float(), (H, W), mode="bilinear")[:, 0] for one in low], dim=1)
    assert torch.equal(found, resized > 0)
    assert not torch.equal(found, exact)
    assert {weight.dtype for weight in rounded.model.parameters()} == {torch.float32}


@pytest.mark.gpu
def test_cuda(folder: Path) -> None:
    segmenter = ours(folder).to("cuda")
    masks = segmenter(video().cuda(), [PROMPTS["points"]], EVERY)[0]
    assert masks.device.type == "cpu"
    on_cpu = segmenter.to("cpu")(video(), [PROMPTS["points"]], EVERY)[0]
    assert (masks[:, 2] == on_cpu[:, 2]).float().mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "millions"),
    [
        ("sam2_hiera_tiny.pt", "configs/sam2/sam2_hiera_t.yaml", 38.9),
        ("sam2_hiera_small.pt", "configs/sam2/sam2_hiera_s.yaml", 46.0),
        ("sam2_hiera_base_plus.pt", "configs/sam2/sam2_hiera_b+.yaml", 80.8),
        ("sam2_hiera_large.pt", "configs/sam2/sam2_hiera_l.yaml", 224.4),
        ("sam2.1_hiera_tiny.pt", "configs/sam2.1/sam2.1_hiera_t.yaml", 38.9),
        ("sam2.1_hiera_small.pt", "configs/sam2.1/sam2.1_hiera_s.yaml", 46.0),
        ("sam2.1_hiera_base_plus.pt", "configs/sam2.1/sam2.1_hiera_b+.yaml", 80.8),
        ("sam2.1_hiera_large.pt", "configs/sam2.1/sam2.1_hiera_l.yaml", 224.4),
    ],
)
def test_released_names_open_the_released_networks(name: str, config: str, millions: float, tmp_path: Path) -> None:
    expected = sam2().build_sam2_video_predictor(config, device="cpu")
    file = tmp_path / name
    torch.save({"model": expected.state_dict()}, file)
    network = SAM2PackageSegmenter(str(file)).model
    file.unlink()  # up to 900 MB
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert all(torch.equal(weight, network.state_dict()[key]) for key, weight in expected.state_dict().items())
    for module, other in ((network, expected), (network.sam_mask_decoder, expected.sam_mask_decoder)):
        settings, others = ({k: v for k, v in vars(one).items() if not k.startswith("_")} for one in (module, other))
        settings.pop("fill_hole_area", None), others.pop("fill_hole_area", None)
        assert {key for key in others if isinstance(others[key], float | str) and settings[key] != others[key]} == set()


@pytest.mark.parametrize(
    ("saved", "match"),
    [
        ([1], "under 'model', .* but got list"),
        ({"state_dict": {}}, r"under 'model', .* but got a dict of \['state_dict'\]"),
        ({"model": {}}, r"hold the weights of the given `config`, but 300 of 300 differ, such as .*, got None"),
    ],
)
def test_a_file_of_another_form_is_refused(saved: object, match: str, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "2.1.pt")
    segmenter = ours(tmp_path)
    with pytest.raises(ValueError, match=match):
        segmenter.model  # noqa: B018


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"no_mem_embed": torch.zeros(1, 1, 7)},
            r"1 of 300 .* 'no_mem_embed': expected shape \(1, 1, 128\), got \(1, 1, 7\)",
        ),
        ({"more": torch.zeros(2)}, r"1 of 301 .* 'more': expected shape None, got \(2,\)"),
    ],
)
def test_other_weights_are_refused(folder: Path, change: dict[str, Tensor], match: str, tmp_path: Path) -> None:
    saved = torch.load(folder / "2.1.pt", weights_only=True)
    saved["model"] |= change
    torch.save(saved, tmp_path / "2.1.pt")
    with pytest.raises(ValueError, match=match):
        ours(tmp_path).model  # noqa: B018


def test_a_release_is_not_opened_as_another(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"2\.0\.pt to hold .* 3 of 300 differ, such as 'no_obj_embed_spatial'"):
        SAM2PackageSegmenter(str(folder / "2.0.pt"), settings("2.1")).model  # noqa: B018


@pytest.mark.parametrize("config", [None, "sam2.1_hiera_l"])
def test_an_unknown_configuration_is_refused_with_the_known_ones(folder: Path, config: str | None) -> None:
    known = r"'configs/sam2\.1/sam2\.1_hiera_l\.yaml'.*'sam2\.1_hiera_large\.pt'"
    with pytest.raises(ValueError, match=rf"one of .*{known}.*, but got {config!r} and '2\.1\.pt'"):
        SAM2PackageSegmenter(str(folder / "2.1.pt"), config)


def test_a_missing_checkpoint_is_named() -> None:
    sam2()
    with pytest.raises(FileNotFoundError, match=r"such as sam2\.1_hiera_large\.pt, but got nowhere\.pt"):
        SAM2PackageSegmenter("nowhere.pt")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sam2", None)
    with pytest.raises(ImportError, match="make sam2"):
        SAM2PackageSegmenter("sam2.1_hiera_large.pt")
