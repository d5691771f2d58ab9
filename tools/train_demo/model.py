"""The demo model's network, written for training on a CPU with PyTorch.

A Nemotron-H stack (Mamba-2, attention, dense MLP, LatentMoE, MTP head) whose parameter names are
the checkpoint's tensor names. It is no part of the product: the C++ engine reads what this exports.
Surprising policy: the scan runs in its chunked matrix form; `self_check` compares it with the plain
recurrence in float64, and make_golden.py recomputes the whole network without this file.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

# Field names are those of a published Nemotron 3 config.json; the file is written from this table.
CONFIG = {
    "architectures": ["NemotronHForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "chunk_size": 64,
    "conv_kernel": 4,
    "eos_token_id": 2,
    "expand": 2,
    "head_dim": 64,
    "hidden_dropout": 0.0,
    "hidden_size": 256,
    "hybrid_override_pattern": "M-M*MEM*E",
    "initializer_range": 0.03,
    "intermediate_size": 768,
    "layer_norm_epsilon": 1e-05,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "mamba_num_heads": 8,
    "mamba_proj_bias": False,
    "mamba_ssm_cache_dtype": "float32",
    "max_position_embeddings": 4096,
    "mlp_bias": False,
    "mlp_hidden_act": "relu2",
    "model_type": "nemotron_h",
    "moe_intermediate_size": 256,
    "moe_latent_size": 256,
    "moe_shared_expert_intermediate_size": 256,
    "mtp_hybrid_override_pattern": "*E",
    "n_group": 1,
    "n_groups": 2,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "norm_eps": 1e-05,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 9,
    "num_key_value_heads": 2,
    "num_logits_to_keep": 1,
    "num_nextn_predict_layers": 1,
    "pad_token_id": 0,
    "partial_rotary_factor": 1.0,
    "rescale_prenorm_residual": True,
    "residual_in_fp32": False,
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "sliding_window": None,
    "ssm_state_size": 128,
    "tie_word_embeddings": False,
    "time_step_floor": 0.0001,
    "time_step_max": 0.1,
    "time_step_min": 0.001,
    "topk_group": 1,
    "torch_dtype": "bfloat16",
    "use_bias": False,
    "use_cache": True,
    "use_conv_bias": True,
    "use_mamba_kernels": True,
    "vocab_size": 1024,
}


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def linear(n_in, n_out):
    return nn.Linear(n_in, n_out, bias=False)


def scan_chunked(x, dt, a, b, c, chunk):
    """y[B,T,h,P] of the Mamba-2 scan without the skip. x [B,T,h,P], dt [B,T,h], a [h] < 0, b and c
    [B,T,G,N]; T must be a multiple of `chunk`. States start at zero."""
    batch, length, heads, width = x.shape
    groups, state = b.shape[2:]
    n_chunks, per = length // chunk, heads // groups
    split = (batch, n_chunks, chunk)
    s = (dt * a).view(*split, heads).permute(0, 1, 3, 2).cumsum(-1)  # [B,C,h,Q]
    xd = (x * dt.unsqueeze(-1)).view(*split, heads, width).permute(0, 1, 3, 2, 4)  # [B,C,h,Q,P]
    b = b.view(*split, groups, state).permute(0, 1, 3, 2, 4)  # [B,C,G,Q,N]
    c = c.view(*split, groups, state).permute(0, 1, 3, 2, 4)
    # exp of a difference, masked before exp: a ratio of exps would overflow.
    mask = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).triu(1)
    decay = (s.unsqueeze(-1) - s.unsqueeze(-2)).masked_fill(mask, -math.inf).exp()  # [B,C,h,Q,Q]
    mix = (c @ b.transpose(-1, -2)).unsqueeze(3) * decay.unflatten(2, (groups, per))
    y = mix.flatten(2, 3) @ xd
    to_end = (s[..., -1:] - s).exp().unsqueeze(-1)
    grow = (xd * to_end).unflatten(2, (groups, per)).transpose(-1, -2) @ b.unsqueeze(3)
    grow = grow.flatten(2, 3)  # [B,C,h,P,N]
    keep = s[..., -1].exp()
    carried, before = torch.zeros_like(grow[:, 0]), []
    for i in range(n_chunks):
        before.append(carried)
        carried = keep[:, i, :, None, None] * carried + grow[:, i]
    before = torch.stack(before, 1).unflatten(2, (groups, per)).transpose(-1, -2)
    y = y + (c.unsqueeze(3) @ before).flatten(2, 3) * s.exp().unsqueeze(-1)
    return y.permute(0, 1, 3, 2, 4).reshape(batch, length, heads, width)


def scan_plain(x, dt, a, b, c):
    """The same function, token by token: the definition."""
    per = x.shape[2] // b.shape[2]
    b, c = b.repeat_interleave(per, 2), c.repeat_interleave(per, 2)
    state = x.new_zeros(*x.shape[:1], *x.shape[2:], b.shape[-1])
    out = []
    for t in range(x.shape[1]):
        xd = x[:, t] * dt[:, t, :, None]
        state = (dt[:, t] * a).exp()[..., None, None] * state + xd[..., None] * b[:, t, :, None]
        out.append((state @ c[:, t, :, :, None])[..., 0])
    return torch.stack(out, 1)


def self_check():
    g = torch.Generator().manual_seed(1)
    rand = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    worst = 0.0
    for chunk in (1, 4, 8, 24):
        x, dt, a = rand(2, 24, 4, 3), F.softplus(rand(2, 24, 4)), -rand(4).exp()
        b, c = rand(2, 24, 2, 5), rand(2, 24, 2, 5)
        diff = (scan_chunked(x, dt, a, b, c, chunk) - scan_plain(x, dt, a, b, c)).abs().max().item()
        worst = max(worst, diff)
    assert worst < 1e-9, worst
    return worst


class Mamba2(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.heads, self.width = cfg["mamba_num_heads"], cfg["mamba_head_dim"]
        self.groups, self.state = cfg["n_groups"], cfg["ssm_state_size"]
        self.inner, self.taps = self.heads * self.width, cfg["conv_kernel"]
        self.chunk, self.eps = cfg["chunk_size"], cfg["norm_eps"]
        conv_dim = self.inner + 2 * self.groups * self.state
        self.in_proj = linear(cfg["hidden_size"], self.inner + conv_dim + self.heads)
        self.conv1d = nn.Conv1d(conv_dim, conv_dim, self.taps, groups=conv_dim)
        low, high = cfg["time_step_min"], cfg["time_step_max"]
        dt = torch.exp(torch.rand(self.heads) * math.log(high / low) + math.log(low))
        dt = dt.clamp(min=cfg["time_step_floor"])
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.log(1 + 15 * torch.rand(self.heads)))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = RMSNorm(self.inner, self.eps)
        self.out_proj = linear(self.inner, cfg["hidden_size"])

    def forward(self, u):
        batch, length, _ = u.shape
        z, xbc, dt = self.in_proj(u).split(
            [self.inner, self.conv1d.weight.shape[0], self.heads], -1)
        w = self.conv1d.weight[:, 0]
        conv = xbc * w[:, -1] + self.conv1d.bias
        for back in range(1, self.taps):
            conv = conv + F.pad(xbc[:, :-back] * w[:, -1 - back], (0, 0, back, 0))
        x, b, c = F.silu(conv).split(
            [self.inner, self.groups * self.state, self.groups * self.state], -1)
        x = x.view(batch, length, self.heads, self.width)
        b = b.view(batch, length, self.groups, self.state)
        c = c.view(batch, length, self.groups, self.state)
        dt = F.softplus(dt + self.dt_bias)
        y = scan_chunked(x, dt, -self.A_log.exp(), b, c, self.chunk)
        y = (y + self.D[:, None] * x).reshape(batch, length, self.inner) * F.silu(z)
        y = y.view(batch, length, self.groups, -1)
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return self.out_proj(y.view(batch, length, self.inner) * self.norm.weight)


class Attention(nn.Module):
    """No positional encoding, whatever config.json's rope fields say."""

    def __init__(self, cfg):
        super().__init__()
        self.q_heads, self.kv_heads = cfg["num_attention_heads"], cfg["num_key_value_heads"]
        self.width = cfg["head_dim"]
        hidden = cfg["hidden_size"]
        self.q_proj = linear(hidden, self.q_heads * self.width)
        self.k_proj = linear(hidden, self.kv_heads * self.width)
        self.v_proj = linear(hidden, self.kv_heads * self.width)
        self.o_proj = linear(self.q_heads * self.width, hidden)

    def forward(self, u):
        batch, length, _ = u.shape
        shape = (batch, length, self.kv_heads, -1, self.width)
        split = lambda y: y.view(shape).permute(0, 2, 3, 1, 4)
        q, k, v = split(self.q_proj(u)), split(self.k_proj(u)), split(self.v_proj(u))
        mask = torch.full((length, length), -math.inf, device=u.device).triu(1)
        score = (q * self.width**-0.5) @ k.transpose(-1, -2) + mask
        y = score.softmax(-1) @ v  # [B, kv, per, T, width]
        return self.o_proj(y.permute(0, 3, 1, 2, 4).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.up_proj, self.down_proj = linear(width, inner), linear(inner, width)

    def forward(self, u):
        return self.down_proj(F.relu(self.up_proj(u)).square())


class Router(nn.Module):
    def __init__(self, hidden, experts):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, hidden))
        self.register_buffer("e_score_correction_bias", torch.zeros(experts))


class LatentMoe(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        hidden, latent = cfg["hidden_size"], cfg["moe_latent_size"]
        self.n, self.k = cfg["n_routed_experts"], cfg["num_experts_per_tok"]
        self.scale = cfg["routed_scaling_factor"]
        self.gate = Router(hidden, self.n)
        self.experts = nn.ModuleList(
            Mlp(latent, cfg["moe_intermediate_size"]) for _ in range(self.n))
        self.shared_experts = Mlp(hidden, cfg["moe_shared_expert_intermediate_size"])
        self.fc1_latent_proj, self.fc2_latent_proj = linear(hidden, latent), linear(latent, hidden)
        self.load = torch.zeros(self.n)  # tokens each expert got since the last bias update

    def forward(self, u):
        flat = u.reshape(-1, u.shape[-1])
        with torch.autocast("cpu", enabled=False):  # routing is decided in float32
            score = torch.sigmoid(F.linear(flat, self.gate.weight))
        pick = (score.detach() + self.gate.e_score_correction_bias).topk(self.k, -1).indices
        weight = score.gather(1, pick)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-20) * self.scale
        latent = self.fc1_latent_proj(flat)
        routed = torch.zeros_like(latent, dtype=weight.dtype)
        for e, expert in enumerate(self.experts):
            row, slot = (pick == e).nonzero(as_tuple=True)
            if self.training:
                self.load[e] += row.numel()
            routed = routed.index_add(
                0, row, expert(latent.index_select(0, row)) * weight[row, slot].unsqueeze(-1))
        return (self.fc2_latent_proj(routed) + self.shared_experts(flat)).view_as(u)

    def update_bias(self, rate):
        """Loss-free balancing: experts below the mean load become easier to pick."""
        self.gate.e_score_correction_bias += rate * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


def make_mixer(kind, cfg):
    if kind == "-":
        return Mlp(cfg["hidden_size"], cfg["intermediate_size"])
    return {"M": Mamba2, "*": Attention, "E": LatentMoe}[kind](cfg)


class Layer(nn.Module):
    def __init__(self, kind, cfg):
        super().__init__()
        self.norm = RMSNorm(cfg["hidden_size"], cfg["norm_eps"])
        self.mixer = make_mixer(kind, cfg)

    def forward(self, r, drop):
        return r + F.dropout(self.mixer(self.norm(r)), drop, self.training)


class Backbone(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embeddings = nn.Embedding(cfg["vocab_size"], cfg["hidden_size"])
        self.layers = nn.ModuleList(Layer(kind, cfg) for kind in cfg["hybrid_override_pattern"])
        self.norm_f = RMSNorm(cfg["hidden_size"], cfg["norm_eps"])


class Mtp(nn.Module):
    """One physical block, used again for every draft depth."""

    def __init__(self, cfg):
        super().__init__()
        hidden, eps = cfg["hidden_size"], cfg["norm_eps"]
        self.layers = nn.ModuleList(Layer(kind, cfg) for kind in cfg["mtp_hybrid_override_pattern"])
        self.layers[0].enorm, self.layers[0].hnorm = RMSNorm(hidden, eps), RMSNorm(hidden, eps)
        self.layers[0].eh_proj = linear(2 * hidden, hidden)
        self.layers[-1].final_layernorm = RMSNorm(hidden, eps)

    def forward(self, embedded, hidden, drop):
        first, last = self.layers[0], self.layers[-1]
        f = first.eh_proj(torch.cat([first.enorm(embedded), first.hnorm(hidden)], -1))
        for layer in self.layers:
            f = layer(f, drop)
        return last.final_layernorm(f)


class DemoModel(nn.Module):
    def __init__(self, cfg, dropout=0.0):
        super().__init__()
        self.cfg, self.dropout = cfg, dropout
        self.backbone, self.mtp = Backbone(cfg), Mtp(cfg)
        self.lm_head = linear(cfg["hidden_size"], cfg["vocab_size"])
        std = cfg["initializer_range"]
        residual_out = ("out_proj", "o_proj", "down_proj", "fc2_latent_proj")
        for name, p in self.named_parameters():
            if p.dim() == 2:
                shrink = any(part in residual_out for part in name.split("."))
                scale = len(cfg["hybrid_override_pattern"])**-0.5 if shrink else 1.0
                nn.init.normal_(p, 0.0, std * scale)

    def moe_blocks(self):
        return [m for m in self.modules() if isinstance(m, LatentMoe)]

    def forward(self, tokens):
        """The hidden after the final norm: what lm_head and the first MTP depth read."""
        r = F.dropout(self.backbone.embeddings(tokens), self.dropout, self.training)
        for layer in self.backbone.layers:
            r = layer(r, self.dropout)
        return self.backbone.norm_f(r)

    def drafts(self, hidden, tokens, depths):
        """Per depth d = 1..depths the hidden predicting token t+d+1 from `hidden` [B,T,H] at t.
        tokens [B, >= T+depths]."""
        length, out = hidden.shape[1], []
        for d in range(1, depths + 1):
            embedded = self.backbone.embeddings(tokens[:, d:d + length])
            hidden = self.mtp(embedded, hidden, self.dropout)
            out.append(hidden)
        return out
