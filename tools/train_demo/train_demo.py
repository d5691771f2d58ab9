#!/usr/bin/env python3
"""Trains the demo model (models/demo) on a text file and exports it as a Hugging Face checkpoint.

    train_demo.py train  --text tinyshakespeare.txt --run RUN_DIR
    train_demo.py export --text tinyshakespeare.txt --run RUN_DIR --out models/demo
    train_demo.py eval   --text tinyshakespeare.txt --model models/demo
    train_demo.py sample --model models/demo --user "Good morrow, cousin."

Needs PyTorch (1.13 or later, CPU), tokenizers, safetensors, jinja2, numpy. It is neither part of
the product nor of its tests. Surprising policy: RUN_DIR/last.pt is where a stopped run goes on, and
it may go on with another --schedule from there; one --schedule with all its points repeats the run.
"""

import argparse
import json
import math
import os
import sys
import time

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import data
from model import CONFIG, DemoModel, self_check

MTP_DEPTHS = 2
MTP_WEIGHT = 0.3
BIAS_RATE = 1e-3  # loss-free load balancing, the published rate


def read_text(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def template_path():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    return os.path.join(root, "models", "demo", "chat_template.jinja")


def losses(model, rows, length):
    """(next token, [per MTP depth]) mean cross entropies of rows [B, length + 1 + MTP_DEPTHS]. The
    MTP head is trained on half of the rows: two depths cost half a backbone, and it needs less."""
    hidden = model(rows[:, :length])
    ce = lambda h, r, shift: F.cross_entropy(
        model.lm_head(h).float().flatten(0, 1), r[:, shift:shift + length].flatten())
    first = len(rows) // 2 if len(rows) > 1 else 0
    drafts = model.drafts(hidden[first:], rows[first:], MTP_DEPTHS)
    return ce(hidden, rows, 1), [ce(h, rows[first:], d + 2) for d, h in enumerate(drafts)]


@torch.no_grad()
def evaluate_raw(model, ids, length, limit=None):
    """(nats, tokens, [draft agreement per depth]) over windows of `length` predictions that tile
    `ids`: every token but the very first is predicted once, from 1 to `length` tokens."""
    model.eval()
    total, count, agree, drafted = 0.0, 0, [0] * MTP_DEPTHS, [0] * MTP_DEPTHS
    starts = list(range(0, len(ids) - 1, length))
    if limit:
        starts = starts[::max(1, len(starts) // limit)][:limit]
    chunk = model.cfg["chunk_size"]
    for i in starts:
        row = torch.tensor(ids[i:i + length + 1])[None]
        n = row.shape[1] - 1
        padded = F.pad(row[:, :-1], (0, -n % chunk))
        hidden = model(padded)
        logits = model.lm_head(hidden[0, :n]).float()
        total += F.cross_entropy(logits, row[0, 1:], reduction="sum").item()
        count += n
        best = logits.argmax(-1)
        drafts = model.drafts(hidden, F.pad(row, (0, -n % chunk + MTP_DEPTHS)), MTP_DEPTHS)
        for d, h in enumerate(drafts):
            keep = n - d - 1  # beyond it the drafts would read padding
            if keep > 0:
                guess = model.lm_head(h[0, :keep]).argmax(-1)
                agree[d] += (guess == best[d + 1:d + 1 + keep]).sum().item()
                drafted[d] += keep
    model.train()
    return total, count, [a / max(1, n) for a, n in zip(agree, drafted)]


@torch.no_grad()
def evaluate_chat(model, windows, length):
    """Mean nats per token of assistant turns (after the think tags, with <|im_end|>)."""
    model.eval()
    total, count = 0.0, 0
    for row in windows:
        logits = model.lm_head(model(row[None, :length]))[0].float()
        nll = F.cross_entropy(logits, row[1:length + 1], reduction="none")
        answering = False
        for t in range(length):
            if answering:
                total, count = total + nll[t].item(), count + 1
            token = row[t + 1].item()
            answering = token == 13 or (answering and token != 11)  # </think> ... <|im_end|>
    model.train()
    return total / max(1, count)


def orthogonal(g):
    """Each matrix of g [n, r, c] with its singular values pushed towards 1 (Newton-Schulz)."""
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Optimizer:
    """Muon for matrices inside the blocks, AdamW for all else; weight decay on matrices only."""

    def __init__(self, model, args):
        groups, rest = {}, []
        for name, p in model.named_parameters():
            if p.dim() == 2 and not name.endswith(
                    ("embeddings.weight", "lm_head.weight", "gate.weight")):
                groups.setdefault(tuple(p.shape), []).append(p)
            else:
                rest.append(p)
        self.groups, self.args = list(groups.values()), args
        self.momentum = [torch.zeros(len(g), *g[0].shape) for g in self.groups]
        self.adam = torch.optim.AdamW(
            [{"params": [p for p in rest if p.dim() == 2], "weight_decay": args.weight_decay},
             {"params": [p for p in rest if p.dim() != 2], "weight_decay": 0.0}],
            betas=(0.9, 0.95), eps=1e-8)

    @torch.no_grad()
    def step(self, share):
        """share: of the peak learning rates."""
        for group in self.adam.param_groups:
            group["lr"] = self.args.lr * share
        self.adam.step()
        lr = self.args.muon_lr * share
        for params, momentum in zip(self.groups, self.momentum):
            g = torch.stack([p.grad for p in params])
            momentum.mul_(0.95).add_(g)
            move = orthogonal(g + 0.95 * momentum) * max(1.0, g.shape[1] / g.shape[2])**0.5
            for p, m in zip(params, move):
                p.mul_(1.0 - lr * self.args.weight_decay).add_(m, alpha=-lr)

    def state(self):
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def restore(self, state):
        self.adam.load_state_dict(state["adam"])
        self.momentum = state["momentum"]


def parse_schedule(text):
    """[(step, share of the peak learning rates)] from "39:1,450:1,800:0", straight between. The
    first is the warm-up's end, the second where the fall begins."""
    points = [(int(step), float(share)) for step, share in (p.split(":") for p in text.split(","))]
    points.insert(0, (0, 1.0 / (points[0][0] + 1)))
    assert all(a[0] < b[0] for a, b in zip(points, points[1:])), text
    return points


def share_at(step, points):
    for (left, low), (right, high) in zip(points, points[1:]):
        if step < right:
            return low + (high - low) * (step - left) / (right - left)
    return points[-1][1]


def flatten(model):
    """Moves all parameters and router biases into two shared flat tensors; returns them."""
    params = list(model.parameters())
    flat = torch.empty(sum(p.numel() for p in params)).share_memory_()
    at = 0
    for p in params:
        flat[at:at + p.numel()] = p.data.flatten()
        p.data = flat[at:at + p.numel()].view_as(p)
        at += p.numel()
    gates = [block.gate for block in model.moe_blocks()]
    bias = torch.zeros(len(gates), model.cfg["n_routed_experts"]).share_memory_()
    for row, gate in zip(bias, gates):
        row.copy_(gate.e_score_correction_bias)
        gate.e_score_correction_bias = row
    return flat, bias


def bind_grads(model, flat_grad):
    at = 0
    for p in model.parameters():
        p.grad = flat_grad[at:at + p.numel()].view_as(p)
        at += p.numel()


def work(model, source, args, grads, stats, jobs, done):
    """One worker process: takes (step, micro-batch, length, noise) jobs, leaves gradients and
    figures in shared memory. All chance comes from the job, so it does not matter who takes it."""
    torch.set_num_threads(1)
    while True:
        job = jobs.get()
        if job is None:
            return
        step, micro, length, noise = job
        seed = (args.seed * 1000003 + step * 64 + micro) % 2**31
        torch.manual_seed(seed)
        source.rng.seed(seed)
        source.noise, source.length = noise, length + 1 + MTP_DEPTHS
        rows = torch.from_numpy(source.batch(args.micro_tokens // length))
        grads[micro].zero_()
        bind_grads(model, grads[micro])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            main, drafts = losses(model, rows, length)
        (main + MTP_WEIGHT / MTP_DEPTHS * sum(drafts)).backward()
        loads = [block.load for block in model.moe_blocks()]
        stats[micro] = torch.cat([torch.tensor([main.item()] + [d.item() for d in drafts])] + loads)
        for load in loads:
            load.zero_()
        done.put(micro)


def train(args):
    print(f"scan, chunked against plain, float64: {self_check():.1e}", flush=True)
    torch.manual_seed(args.seed)
    os.makedirs(args.run, exist_ok=True)
    text, held_out = data.split_text(read_text(args.text))
    tokenizer_json = data.train_tokenizer(text, CONFIG["vocab_size"])
    template = data.make_template(template_path())
    source = data.Windows(text, tokenizer_json, template, 0, 0, 0.0)
    val_ids = source.tok.encode(held_out).ids
    val_source = data.Windows(held_out, tokenizer_json, template, args.final_length + 1, 1, 0.0)
    val_chat = torch.tensor([val_source.chat() for _ in range(12)])

    model = DemoModel(CONFIG, args.dropout)
    flat, bias = flatten(model)
    opt = Optimizer(model, args)
    step, best, spent = 0, math.inf, 0.0
    last = os.path.join(args.run, "last.pt")
    if os.path.exists(last):
        saved = torch.load(last)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(saved["model"][name])
        opt.restore(saved["opt"])
        step, best, spent = saved["step"], saved["best"], saved["spent"]
        print(f"resumed at step {step}", flush=True)

    blocks = len(bias)
    grads = torch.zeros(args.micro, flat.numel()).share_memory_()
    stats = torch.zeros(args.micro, 1 + MTP_DEPTHS + bias.numel()).share_memory_()
    jobs, done = mp.SimpleQueue(), mp.SimpleQueue()
    workers = [mp.Process(target=work, daemon=True,
                          args=(model, source, args, grads, stats, jobs, done))
               for _ in range(args.workers)]
    for w in workers:
        w.start()
    total_grad = torch.zeros_like(flat)
    bind_grads(model, total_grad)

    def save(name, **more):
        path = os.path.join(args.run, name)
        tensors = {k: v.clone() for k, v in model.state_dict().items()}
        torch.save({"model": tensors, "step": step, **more}, path + ".part")
        os.replace(path + ".part", path)

    began, ema = time.time(), None
    points = parse_schedule(args.schedule)
    steps = points[-1][0]
    while step < steps:
        falling = step >= points[2][0]  # then long windows, cut as they will be read
        for micro in range(args.micro):
            jobs.put((step, micro, args.final_length if falling else args.length,
                      0.0 if falling else args.noise))
        for _ in range(args.micro):
            done.get()
        torch.mean(grads, 0, out=total_grad)
        total_grad.mul_(min(1.0, 1.0 / (total_grad.norm().item() + 1e-6)))
        share = share_at(step, points)
        opt.step(share)
        load = stats[:, 1 + MTP_DEPTHS:].sum(0).view(blocks, -1)
        bias += BIAS_RATE * torch.sign(load.mean(1, keepdim=True) - load)
        load = load / load.sum(1, keepdim=True)
        step += 1
        mean = stats[:, :1 + MTP_DEPTHS].mean(0).tolist()
        ema = mean[0] if ema is None else 0.95 * ema + 0.05 * mean[0]
        minutes = (spent + time.time() - began) / 60
        if step % 10 == 0:
            print(f"step {step} loss {ema:.3f} mtp {' '.join(f'{d:.3f}' for d in mean[1:])} "
                  f"share {share:.3f} load {load.min():.3f}-{load.max():.3f} {minutes:.1f} min",
                  flush=True)
        if step % args.eval_every == 0 or step == steps:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                total, count, agree = evaluate_raw(model, val_ids, args.final_length, limit=30)
                chat = evaluate_chat(model, val_chat, args.final_length)
            if total / count < best:
                best = total / count
                save("best.pt")
            save("last.pt", opt=opt.state(), best=best, spent=60 * minutes)
            print(f"  validation {total / count:.4f} (best {best:.4f}) chat {chat:.4f} "
                  f"draft agreement {' '.join(f'{a:.2f}' for a in agree)}", flush=True)
    for _ in workers:
        jobs.put(None)


def export(args):
    """Writes config, tokenizer and weights of RUN_DIR/<--checkpoint> to --out. The README and the
    chat template are written by hand and stay."""
    text, _ = data.split_text(read_text(args.text))
    os.makedirs(args.out, exist_ok=True)

    def write(name, content):
        with open(os.path.join(args.out, name), "w", encoding="utf-8") as f:
            f.write(content + "\n")

    saved = torch.load(os.path.join(args.run, args.checkpoint))
    tensors = {}
    for name, tensor in saved["model"].items():
        keep_f32 = name.endswith("e_score_correction_bias")
        tensors[name] = tensor.contiguous().to(torch.float32 if keep_f32 else torch.bfloat16)
    weights = os.path.join(args.out, "model.safetensors")
    save_file(tensors, weights, metadata={"format": "pt"})
    os.chmod(weights, 0o644)
    write("config.json", json.dumps(CONFIG, indent=2))
    write("generation_config.json", json.dumps({
        "bos_token_id": 1, "do_sample": True, "eos_token_id": [2, 11], "pad_token_id": 0,
        "temperature": 0.8, "top_p": 0.95}, indent=2))
    write("tokenizer.json", data.train_tokenizer(text, CONFIG["vocab_size"]))
    added = {str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False,
                      "single_word": False, "special": s not in data.NOT_SPECIAL}
             for i, s in enumerate(data.SPECIAL)}
    write("tokenizer_config.json", json.dumps({
        "add_bos_token": False, "add_eos_token": False, "added_tokens_decoder": added,
        "bos_token": "<s>", "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
        "model_max_length": CONFIG["max_position_embeddings"], "pad_token": "<unk>",
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}, indent=2))
    parameters = sum(t.numel() for t in tensors.values())
    n_bytes = sum(os.path.getsize(os.path.join(args.out, f)) for f in os.listdir(args.out))
    print(f"step {saved['step']}: {len(tensors)} tensors, {parameters} parameters, "
          f"{n_bytes} bytes in the folder")


def load(folder):
    model = DemoModel(CONFIG)
    model.load_state_dict({k: v.float() for k, v in load_file(
        os.path.join(folder, "model.safetensors")).items()})
    return model.eval(), Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))


def evaluate(args):
    model, tok = load(args.model)
    text, held_out = data.split_text(read_text(args.text))
    seen = text[:len(held_out)]
    for name, part in (("validation", held_out), ("a tenth of the training text", seen)):
        ids = tok.encode(part).ids
        total, count, agree = evaluate_raw(model, ids, args.final_length)
        n_bytes = len(part.encode()) - len(tok.decode(ids[:1]).encode())
        print(f"{name}: {count} tokens, {n_bytes} bytes, {total / count:.4f} nats per token, "
              f"{total / math.log(2) / n_bytes:.4f} bits per byte, draft agreement "
              + ", ".join(f"{a:.3f}" for a in agree), flush=True)
    with open(os.path.join(args.model, "tokenizer.json"), encoding="utf-8") as f:
        source = data.Windows(held_out, f.read(), data.make_template(template_path()),
                              args.final_length + 1, 1, 0.0)
    chat = torch.tensor([source.chat() for _ in range(40)])
    print(f"assistant turns of held-out conversations: "
          f"{evaluate_chat(model, chat, args.final_length):.4f} nats per token")


@torch.no_grad()
def sample(args):
    model, tok = load(args.model)
    torch.manual_seed(args.seed)
    if args.prompt is not None:
        text = args.prompt
    else:
        messages = [{"role": "system", "content": args.system}] if args.system else []
        text = data.make_template(template_path()).render(
            messages=messages + [{"role": "user", "content": args.user}],
            add_generation_prompt=True, enable_thinking=args.think)
    ids, chunk = tok.encode(text).ids, model.cfg["chunk_size"]
    for _ in range(args.tokens):
        hidden = model(F.pad(torch.tensor(ids)[None], (0, -len(ids) % chunk)))[0, len(ids) - 1]
        p, order = (model.lm_head(hidden) / 0.8).softmax(-1).sort(descending=True)
        p = p * ((p.cumsum(0) - p) < 0.95)
        ids.append(order[torch.multinomial(p, 1)].item())
        if ids[-1] in (2, 11):
            break
    print(tok.decode(ids, skip_special_tokens=False))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("verb", choices=["train", "export", "eval", "sample"])
    p.add_argument("--text")
    p.add_argument("--run")
    p.add_argument("--out", default="models/demo")
    p.add_argument("--model", default="models/demo")
    p.add_argument("--checkpoint", default="best.pt")
    p.add_argument("--workers", type=int, default=2, help="processes; chance does not depend on it")
    p.add_argument("--seed", type=int, default=20)
    p.add_argument("--schedule", default="39:1,450:1,560:0.685714,670:0",
                   help="step:share of the peak rates")
    p.add_argument("--micro", type=int, default=4, help="micro-batches a step")
    p.add_argument("--micro-tokens", type=int, default=1024)
    p.add_argument("--length", type=int, default=256)
    p.add_argument("--final-length", type=int, default=512)
    p.add_argument("--lr", type=float, default=3e-3, help="AdamW's peak")
    p.add_argument("--muon-lr", type=float, default=0.012)
    p.add_argument("--weight-decay", type=float, default=0.3)
    p.add_argument("--dropout", type=float, default=0.2)
    p.add_argument("--noise", type=float, default=0.5)
    p.add_argument("--eval-every", type=int, default=100)
    p.add_argument("--prompt")
    p.add_argument("--system")
    p.add_argument("--user", default="Good morrow, cousin.")
    p.add_argument("--think", action="store_true")
    p.add_argument("--tokens", type=int, default=200)
    args = p.parse_args()
    torch.set_num_threads(1)  # before any fork
    {"train": train, "export": export, "eval": evaluate, "sample": sample}[args.verb](args)


if __name__ == "__main__":
    sys.exit(main())
