"""Loading: the same model as transformers', shared weights, packed weights, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.checkpoints import quiet, read_head, rewrite_head
from tests.support.logits import canvas_logits, compare
from torch import Tensor
from transformers import DiffusionGemmaForBlockDiffusion

from unwritten_engine.diffusion.diffusion_gemma.family import DIFFUSION_GEMMA, RANDOM_SIZES
from unwritten_engine.diffusion.diffusion_gemma.quantization import PackedExperts, PackedLinear
from unwritten_engine.diffusion.diffusion_gemma.random_model import write_checkpoint
from unwritten_engine.diffusion.loader import LoadedModel, load_model
from unwritten_engine.engine import Progress
from unwritten_engine.errors import BadOption, ModelBroken, ModelNotFound, ModelUnsupported

PROMPT = torch.arange(2 * 90).view(2, 90) * 7 % 500 + 500  # longer than the window
CANVAS = torch.arange(2 * 32).view(2, 32) * 11 % 500 + 500


def loading(
    folder: Path | str, quantize: str | None = None, dtype: str | None = None, progress: Progress = quiet
) -> LoadedModel:
    return load_model(str(folder), device="cpu", quantize=quantize, dtype=dtype, budget_bytes=None, progress=progress)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "small", branch=0.5, shard_bytes=800_000)


@pytest.fixture(scope="module")
def logits(folder: Path) -> Tensor:
    model = DiffusionGemmaForBlockDiffusion.from_pretrained(folder)
    return canvas_logits(model, PROMPT, CANVAS)


def test_the_loaded_model_equals_transformers(folder: Path, logits: Tensor) -> None:
    loaded = loading(folder)
    assert torch.equal(canvas_logits(loaded.model, PROMPT, CANVAS), logits)
    theirs = DiffusionGemmaForBlockDiffusion.from_pretrained(folder).state_dict()
    ours = loaded.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_loaded_model_equals_transformers_in_bfloat16(folder: Path) -> None:
    theirs = DiffusionGemmaForBlockDiffusion.from_pretrained(folder, dtype=torch.bfloat16)
    loaded = loading(folder, dtype="bfloat16")
    assert (loaded.quantization, loaded.dtype) == ("bf16", torch.bfloat16)
    assert torch.equal(canvas_logits(loaded.model, PROMPT, CANVAS), canvas_logits(theirs, PROMPT, CANVAS))
    for name, buffer in theirs.named_buffers():
        mine = loaded.model.get_buffer(name)
        assert (mine.dtype, mine.tolist()) == (buffer.dtype, buffer.tolist()), name


@pytest.mark.parametrize(
    ("capability", "dtype", "first"),
    [
        ((9, 0), torch.bfloat16, "grouped_mm"),
        ((10, 0), torch.bfloat16, "grouped_mm"),
        ((9, 0), torch.float32, "triton"),
        ((8, 0), torch.bfloat16, "triton"),
        ((8, 9), torch.bfloat16, "triton"),
        ((12, 0), torch.bfloat16, "triton"),
    ],
)
def test_experts_on_a_gpu_do_not_loop_on_the_host(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, first: str
) -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    from unwritten_engine.diffusion.diffusion_gemma import weight_loader

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(weight_loader, "is_available", lambda: True)
    assert weight_loader._experts_implementations(torch.device("cuda", 1), dtype)[0] == first
    assert "triton" in ALL_EXPERTS_FUNCTIONS
    monkeypatch.setattr(weight_loader, "is_available", lambda: False)
    assert "triton" not in weight_loader._experts_implementations(torch.device("cuda", 1), dtype)


def test_packed_experts_run_without_a_kernel_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unwritten_engine.diffusion.diffusion_gemma import quantization, weight_loader

    class CompilerMissing(Exception):  # no error of Triton is a RuntimeError
        pass

    def broken(*given: object) -> Tensor:
        raise CompilerMissing("Failed to find C compiler.\nPlease specify one.")

    model = loading(folder, "int8").model
    wanted = canvas_logits(model, PROMPT, CANVAS)
    for module in model.modules():
        if isinstance(module, PackedExperts):
            module.use_kernel = True
    monkeypatch.setattr(quantization, "run_grouped", broken)
    monkeypatch.setattr(weight_loader, "is_available", lambda: True)
    problem = weight_loader.try_kernel(model, torch.device("cpu"), torch.float32)
    assert problem == "Triton fails here (Failed to find C compiler.)"
    assert torch.equal(canvas_logits(model, PROMPT, CANVAS), wanted)


def test_an_implementation_that_fails_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    from unwritten_engine.diffusion.diffusion_gemma import weight_loader

    def broken(*given: object) -> Tensor:
        raise OSError("no Python.h")

    monkeypatch.setitem(ALL_EXPERTS_FUNCTIONS._global_mapping, "broken", broken)
    monkeypatch.setattr(weight_loader, "_experts_implementations", lambda device, dtype: ("broken", "eager"))
    model = loading(folder).model
    reason = weight_loader.choose_experts_implementation(model, torch.device("cpu"), torch.float32)
    assert reason == "Experts are computed by transformers' eager (broken fails here: no Python.h)."


def test_progress_and_memory_are_reported(folder: Path) -> None:
    said: list[tuple[float, str]] = []
    loaded = loading(folder, progress=lambda share, doing: said.append((share, doing)))
    assert "Loading small in float32" in said[0][1]
    assert all(f"in {kind}" in said[0][1] for kind in ("bf16", "int8", "nf4"))
    assert [share for share, _ in said] == sorted(share for share, _ in said)
    assert said[-1][0] == 1.0
    assert (loaded.name, loaded.quantization, loaded.dtype) == ("small", "float32", torch.float32)
    assert loaded.end_ids == {1, 106, 50}
    assert loaded.pad_id == 0 and not loaded.checkpoint.vision
    assert any("32 bits" in reason for reason in loaded.reasons)
    assert any("Experts are computed by transformers' grouped_mm" in reason for reason in loaded.reasons)


@pytest.mark.parametrize("quantize", ["none", "int8", "nf4"])
def test_encoder_and_decoder_share_their_storage_but_not_their_scalars(folder: Path, quantize: str) -> None:
    model = loading(folder, quantize).model
    encoder, decoder = model.model.encoder.language_model, model.model.decoder
    assert model.lm_head.weight is decoder.embed_tokens.weight is encoder.embed_tokens.weight
    for one, two in zip(encoder.layers, decoder.layers, strict=True):
        mine = dict(one.named_parameters()) | dict(one.named_buffers())
        other = dict(two.named_parameters()) | dict(two.named_buffers())
        assert mine.keys() == other.keys()
        for name in mine:
            shared = mine[name].data_ptr() == other[name].data_ptr()
            assert shared is (name != "layer_scalar"), name
        assert one.layer_scalar.item() != two.layer_scalar.item()


@pytest.mark.parametrize(("quantize", "error", "agreement"), [("int8", 0.25, 0.85), ("nf4", 0.8, 0.5)])
def test_packed_models_are_close_to_the_original(
    folder: Path, logits: Tensor, quantize: str, error: float, agreement: float
) -> None:
    loaded = loading(folder, quantize)
    found = compare(logits, canvas_logits(loaded.model, PROMPT, CANVAS))
    print(quantize, found)
    assert 0 < found.error < error
    assert found.agreement >= agreement
    for layer in loaded.model.model.decoder.layers:
        assert isinstance(layer.experts, PackedExperts)
        assert isinstance(layer.self_attn.q_proj, PackedLinear)
        assert isinstance(layer.mlp.down_proj, PackedLinear)
        assert type(layer.router.proj) is torch.nn.Linear
    assert isinstance(loaded.model.model.decoder.self_conditioning.up_proj, PackedLinear)
    assert type(loaded.model.lm_head) is torch.nn.Linear


def test_packed_models_keep_a_clear_argmax(tmp_path: Path) -> None:
    # Layers of trained models add little to what they are given; chaos makes small errors large.
    calm = write_checkpoint(tmp_path, branch=0.3)
    plain = canvas_logits(loading(calm).model, PROMPT, CANVAS)
    eight = compare(plain, canvas_logits(loading(calm, "int8").model, PROMPT, CANVAS))
    four = compare(plain, canvas_logits(loading(calm, "nf4").model, PROMPT, CANVAS))
    assert eight.error < 0.1 < four.error < 0.5
    assert min(eight.agreement, four.agreement) > 0.95


def test_no_tensor_is_on_the_meta_device_or_trainable(folder: Path) -> None:
    for quantize in ("none", "nf4"):
        model = loading(folder, quantize).model
        tensors = [*model.parameters(), *model.buffers()]
        assert not any(tensor.is_meta or tensor.requires_grad for tensor in tensors)
        assert not model.training


def test_matrices_without_whole_blocks_stay_as_they_are(tmp_path: Path) -> None:
    odd = write_checkpoint(tmp_path, layers=2, hidden=96)
    loaded = loading(odd, "nf4")
    assert any("are not quantized" in reason for reason in loaded.reasons)
    assert type(loaded.model.model.decoder.layers[0].experts) is not PackedExperts
    canvas_logits(loaded.model, PROMPT, CANVAS)
    assert isinstance(loading(odd, "int8").model.model.decoder.layers[0].experts, PackedExperts)


def test_a_checkpoint_without_a_vision_tower_reads_text(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path / "whole", layers=2)
    blind = Path(shutil.copytree(whole, tmp_path / "blind"))
    tensors = load_file(whole / "model.safetensors")
    save_file({key: tensor for key, tensor in tensors.items() if "vision" not in key}, blind / "model.safetensors")
    loaded = loading(blind)
    assert loaded.model.model.encoder.vision_tower is None
    assert any("no vision tower" in reason for reason in loaded.reasons)
    wanted = canvas_logits(loading(whole).model, PROMPT, CANVAS)
    assert torch.equal(canvas_logits(loaded.model, PROMPT, CANVAS), wanted)


WATCHED = """
import sys, threading, time
from transformers import AutoTokenizer, DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion
from unwritten_engine.diffusion.loader import load_model

def own():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

def watch():
    while not done:
        most[0] = max(most[0], own())
        time.sleep(0.002)

before, most, done = own(), [0], []
watcher = threading.Thread(target=watch)
watcher.start()
options = dict(device="cpu", quantize="int8", dtype="bfloat16", budget_bytes=None)
loaded = load_model(sys.argv[1], progress=lambda *_: None, **options)
done.append(True)
watcher.join()
print(loaded.weight_bytes, most[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read where Linux tells it")
def test_loading_needs_little_more_memory_than_the_weights(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, hidden=384, experts=16, heads=8)
    ran = subprocess.run([sys.executable, "-c", WATCHED, str(folder)], capture_output=True, text=True, timeout=120)
    weights, most = map(int, ran.stdout.split())
    stored = (folder / "model.safetensors").stat().st_size
    assert stored > 3 * weights
    assert most < weights + 60_000_000 < stored  # for the tokenizer, torch's own (40 to 45 MB seen) and one slice


def test_a_tensor_without_a_place_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, layers=2)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"model.decoder.layers.0.extra.weight": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(ModelUnsupported, match=r"1 unknown tensors, such as model\.decoder\.layers\.0\.extra"):
        loading(folder)


def test_overlapping_tensors_are_damage(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, layers=2)
    head = read_head(folder / "model.safetensors")
    one, two = "model.decoder.norm.weight", "model.decoder.self_conditioning.pre_norm.weight"
    head[one]["data_offsets"] = head[two]["data_offsets"]
    rewrite_head(folder / "model.safetensors", head)
    with pytest.raises(ModelBroken, match="is damaged"):
        loading(folder)


def test_the_random_model_is_built_locally() -> None:
    said: list[str] = []
    loaded = loading(DIFFUSION_GEMMA.random, progress=lambda _, doing: said.append(doing))
    assert "gibberish" in said[0]
    assert "gibberish" in loaded.reasons[0]
    assert loaded.name == DIFFUSION_GEMMA.random
    assert len(loaded.tokenizer) == RANDOM_SIZES["vocabulary"]
    assert loaded.model.config.canvas_length == RANDOM_SIZES["canvas"]


def test_the_best_precision_within_the_budget_is_chosen(folder: Path) -> None:
    def at(budget: int, quantize: str | None = None) -> LoadedModel:
        return load_model(str(folder), device="cpu", quantize=quantize, dtype=None, budget_bytes=budget, progress=quiet)

    assert at(100_000_000).quantization == "float32"
    with pytest.raises(ModelUnsupported, match=r"The model needs .* for 1 request of 4,096 tokens"):
        at(1_000_000)
    with pytest.raises(ModelUnsupported, match="This machine has 1 MB"):
        at(1_000_000, "nf4")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "'device' is 'gpu'; give 'cuda'"),
        ({"device": "meta"}, "'device' is 'meta'"),
        ({"device": "cuda:99"}, "'device' is 'cuda:99', but torch finds"),
        ({"dtype": "float16"}, "'dtype' is 'float16'; give 'float32' or 'bfloat16'"),
        ({"quantize": "int4"}, "'quantize' is 'int4'; give 'none', 'int8' or 'nf4'"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, str], words: str) -> None:
    given: dict[str, str | None] = {"device": None, "dtype": None, "quantize": None}
    with pytest.raises(BadOption, match=words):
        load_model(DIFFUSION_GEMMA.random, budget_bytes=None, progress=quiet, **(given | options))


def test_a_missing_path_is_not_searched_on_the_hub() -> None:
    for path in ("./models/mine", "models/of/mine", "nothing"):
        with pytest.raises(ModelNotFound, match="There is no folder"):
            loading(path)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "a", layers=2)
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnsupported, match="no chat template"):
        loading(folder)
    larger = write_checkpoint(tmp_path / "b", layers=2, vocabulary=2048)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(larger / name, folder / name)
    with pytest.raises(ModelUnsupported, match="has 2,048 tokens and the model 1,024"):
        loading(folder)
