"""A small program that behaves like llama-diffusion-gemma-visual-server, as its source describes the protocol.

What it does is chosen by the last message of a request, and at the start by the file ``mode`` beside it. Each request
is appended to the file ``requests`` beside it.
"""

import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
FULL = "word " * 256
NOISE = "qz vx " * 20


def put(line: str) -> None:
    print(line, flush=True)


def draft(block: int, step: int, text: str) -> None:
    put(f"F {block} {step} 48 {json.dumps(text)}")
    time.sleep(0.01)


def commit(block: int, text: str) -> None:
    put(f"C {block} {json.dumps(text)}")


def done(tokens: int, blocks: int, steps: int) -> None:
    put(
        f"STATS prompt_n=17 predicted_n={tokens} prompt_prepare_ms=0.100 wall_ms=9.500 decode_ms=9.000 "
        f"blocks={blocks} steps={steps} canvas=256 n_ctx=4096"
    )
    put("DONE")


def write(ask: str, most: int) -> None:
    if "parse" in ask:
        return put("ERR parse [json.exception.out_of_range.403] key 'messages' not found")
    if "toolong" in ask:
        put("ERR toolong 5000 4096")
        return put("DONE")
    if "cannot" in ask:
        put("ERR gen")
        return put("DONE")
    if "only garbage" in ask:
        put('F 0 one 48 "x"')
        put("C 0 not json")
        put("STEP\t0\tsomething else")
        return put("DONE")
    if "endless lines" in ask:
        while True:
            put("step\t1")
    if "partial" in ask:
        draft(0, 0, FULL)
        commit(0, FULL)
        put("ERR toolong 4300 4096")
        return done(256, 1, 1)
    if "endless" in ask:
        for block in range(most):
            draft(block, 0, FULL)
            commit(block, FULL * (block + 1))
        return done(256 * most, most, most)
    if "slow" in ask:
        for step in range(40):
            draft(0, step, f"Step {step}")
            time.sleep(0.02)
        commit(0, "Slow.")
        return done(2, 1, 40)
    if "think" in ask:
        markers = ("<|channel>", "<channel|>") if "marked" in ask else ("", "")
        thought, answer = "thought\nA lamp, I think. ", "A lamp is bright."
        draft(0, 0, NOISE)
        draft(0, 1, f"{markers[0]}{thought * 10}")
        commit(0, f"<|channel>{thought * 10}")
        if "only" in ask:
            for block in range(1, most):
                commit(block, f"<|channel>{thought * 10 * (block + 1)}")
            return done(256 * most, most, 2)
        if "unclosed" in ask:
            draft(1, 0, answer)
            commit(1, f"<|channel>{thought * 10}{answer}")
            return done(300, 2, 3)
        draft(1, 0, f"so.{markers[1]}{NOISE}")
        draft(1, 1, f"so.{markers[1]}{answer}")
        commit(1, f"<|channel>{thought * 10}so.<channel|>{answer}")
        return done(300, 2, 4)
    if "empty thought" in ask:
        draft(0, 0, "thought\nA lamp.")
        commit(0, "<|channel>thought\n<channel|>A lamp.")
        return done(8, 1, 1)
    if "garbage" in ask:
        put("llama_context: a line of a log")
        put("F 0 0 48")
        sys.stdout.buffer.write(b"\xff\xfe\x00 F 0\n")
    for step, text in enumerate(("xx yy\nzz", "A lighthouse yy", "A lighthouse is tall.\n\nIt \ufffd")):
        draft(0, step, text)
        if "stall" in ask:
            time.sleep(300)
        if "die" in ask:
            print("terminate called: invalid UTF-8 byte at index 0: 0xA0", file=sys.stderr, flush=True)
            sys.exit(3)
    commit(0, "A lighthouse is tall.\n\nIt ")
    if most > 1:
        draft(1, 0, "qq ww")
        draft(1, 1, "has a lamp for ships.")
        commit(1, "A lighthouse is tall.\n\nIt has a lamp for ships.")
    done(260, 2, 5)


def main() -> None:
    mode = (HERE / "mode").read_text() if (HERE / "mode").exists() else ""
    print("load_tensors: loading model tensors", file=sys.stderr)
    if "gpu" in mode:
        print("load_tensors: offloaded 31/31 layers to GPU", file=sys.stderr)
    if "crash" in mode:
        print("error loading model: unknown model architecture: 'diffusion-gemma'", file=sys.stderr)
        sys.exit(1)
    if "silent" in mode:
        time.sleep(300)
    time.sleep(0.05)
    put("READY 262144" if "old" in mode else f"READY 262144 {os.environ.get('MAXTOK') or 0}")
    for line in sys.stdin:
        name = line.rstrip("\n")
        if name == "QUIT":
            return
        request = json.loads(Path(name).read_text(encoding="utf-8"))
        note = {"arguments": sys.argv[1:], "file": name, "request": request, "pid": os.getpid()}
        note["environment"] = {key: os.environ.get(key) for key in ("NGL", "MAXTOK", "LD_LIBRARY_PATH")}
        with (HERE / "requests").open("a") as file:
            file.write(json.dumps(note) + "\n")
        write(request["messages"][-1]["content"], request["n_blocks"])


if __name__ == "__main__":
    main()
