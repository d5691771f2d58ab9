"""Text for the demo model: tokenizer, chat template, training windows.

Surprising policy: everything is learnt from the first 90 % of the text only, the tokenizer too, so
the validation loss is of text that nothing has seen.
"""

import json

import jinja2
import jinja2.ext
import jinja2.sandbox
import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

# Nemotron 3's first 18 ids, in order.
SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
           "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "<|im_start|>", "<|im_end|>",
           "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>",
           "</tool_response>"]
# Written in assistant text, so a reader that skips special tokens must still see them.
NOT_SPECIAL = SPECIAL[12:]

_LETTER_UP, _LETTER_LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE_WORD = r"[^\r\n\p{L}\p{N}]?"
SPLIT = "|".join([
    f"{_BEFORE_WORD}{_LETTER_UP}*{_LETTER_LOW}+", f"{_BEFORE_WORD}{_LETTER_UP}+{_LETTER_LOW}*",
    r"\p{N}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


def split_text(text):
    """(train, validation): the usual 90 / 10 split by characters."""
    cut = int(0.9 * len(text))
    return text[:cut], text[cut:]


def train_tokenizer(text, vocab_size):
    tok = Tokenizer(models.BPE(ignore_merges=True, byte_fallback=False))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[AddedToken(s, special=True) for s in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    # The template's words become tokens.
    roles = ["user\n", "assistant\n"] * 2000 + ["system\n"] * 500
    tok.train_from_iterator([text] + roles, trainer)
    spec = json.loads(tok.to_str())
    for added in spec["added_tokens"]:
        added["special"] = added["content"] not in NOT_SPECIAL
    spec["model"]["ignore_merges"] = True
    assert [a["content"] for a in spec["added_tokens"]] == SPECIAL
    assert len(spec["model"]["vocab"]) == vocab_size
    return json.dumps(spec, ensure_ascii=False, indent=1)


def make_template(path):
    """chat_template.jinja compiled with the settings Hugging Face's library uses."""
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    env.filters["tojson"] = lambda v, **kw: json.dumps(v, ensure_ascii=False, **kw)
    with open(path) as f:
        return env.from_string(f.read())


def parse_speeches(text):
    """[(speaker, words)] in the order of the plays."""
    out = []
    for block in text.split("\n\n"):
        head, _, words = block.strip().partition("\n")
        if head.endswith(":") and len(head) < 40 and words.strip():
            out.append((head[:-1].title(), words.strip()))
    return out


def shorten(words, limit):
    """The beginning of a speech, up to an end of sentence within `limit` characters, or None."""
    if len(words) <= limit:
        return words
    end = max(words.rfind(mark, 0, limit) for mark in ".?!")
    return words[:end + 1] if end > 0 else None


class Windows:
    """Random windows of `length` token ids: half of them raw text, half conversations."""

    def __init__(self, text, tokenizer_json, template, length, seed, noise):
        self.tok = Tokenizer.from_str(tokenizer_json)
        self.rng = np.random.RandomState(seed)
        self.template, self.length, self.noise = template, length, noise
        self.text, self.speeches = text, parse_speeches(text)
        # Cut into other tokens now and then, the text is new: some merges are missing from these.
        self.noisy = []
        for _ in range(8):
            spec = json.loads(tokenizer_json)
            merges = spec["model"]["merges"]
            spec["model"]["ignore_merges"] = False
            spec["model"]["merges"] = [m for m in merges if self.rng.rand() > 0.1]
            self.noisy.append(Tokenizer.from_str(json.dumps(spec)))
        self.starts = [i + 2 for i in range(len(text) - 2) if text[i:i + 2] == "\n\n"]

    def raw(self):
        reach = self.length * 6  # characters; a token is about 2.5 of them
        if self.rng.rand() < 0.3:  # a prompt begins where a speech begins
            at = self.starts[self.rng.randint(len(self.starts))]
        else:
            at = self.rng.randint(len(self.text))
        at = min(at, len(self.text) - reach)
        tok = self.noisy[self.rng.randint(8)] if self.rng.rand() < self.noise else self.tok
        return tok.encode(self.text[at:at + reach]).ids[:self.length]

    def conversation(self):
        """One conversation made of consecutive speeches, as text; None when they do not fit."""
        rng, turns = self.rng, int(self.rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))
        at = rng.randint(len(self.speeches) - 2 * turns)
        part = self.speeches[at:at + 2 * turns]
        messages = []
        speakers = {speaker for speaker, _ in part[1::2]}
        if len(speakers) == 1 and rng.rand() < 0.35:
            messages.append({"role": "system", "content": f"You are {part[1][0]}."})
        for i, (speaker, words) in enumerate(part):
            words = shorten(words, 400 if i % 2 else (60 if rng.rand() < 0.3 else 300))
            if words is None:
                return None
            messages.append({"role": "assistant" if i % 2 else "user", "content": words})
        if rng.rand() < 0.15:
            messages[-1]["reasoning_content"] = f"I answer as {part[-1][0]}."
        return self.template.render(messages=messages)

    def chat(self):
        ids = []
        while len(ids) < self.length:
            text = self.conversation()
            if text is not None:
                ids += self.tok.encode(text).ids
        return ids[:self.length]

    def batch(self, size):
        rows = [self.raw() if i % 2 == 0 else self.chat() for i in range(size)]
        return np.array(rows, dtype=np.int64)
