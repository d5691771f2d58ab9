#!/usr/bin/env python3
"""The merges that `lode data bpe` learns beside those of Hugging Face's trainer, from the same text.

    runs/bpe_vs_tokenizers.py LODE TEXT.txt [--vocab 4096]     (needs PyPI's tokenizers)

Both read the file as one text, cut it with the same expression, and give equal counts to the pair with
the smaller ids. Prints how many merges agree, whether both tokenizer.json files encode the text to the
same ids, and the times of learning.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers


def learn_theirs(text, vocabulary, regex):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), 'isolated'),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, min_frequency=2, show_progress=False,
                                  special_tokens=['<|endoftext|>'],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    began = time.monotonic()
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer, time.monotonic() - began


def pairs(merges):
    return [tuple(merge.split(' ')) if isinstance(merge, str) else tuple(merge) for merge in merges]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('lode')
    parser.add_argument('text')
    parser.add_argument('--vocab', type=int, default=4096)
    flags = parser.parse_args()
    text = open(flags.text, encoding='utf-8', newline='').read()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        subprocess.run([flags.lode, 'data', 'bpe', flags.text, '--vocab', str(flags.vocab), '--out',
                        folder], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        path = os.path.join(folder, 'tokenizer.json')
        ours_json = json.load(open(path, encoding='utf-8'))
        ours = Tokenizer.from_file(path)
    regex = ours_json['pre_tokenizer']['pretokenizers'][0]['pattern']['Regex']
    theirs, their_seconds = learn_theirs(text, flags.vocab, regex)
    a = pairs(ours_json['model']['merges'])
    b = pairs(json.loads(theirs.to_str())['model']['merges'])
    same = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    print(f'merges: {len(a)} and {len(b)}, the first {same} agree')
    same_ids = ours.encode(text).ids == theirs.encode(text).ids
    print(f'the text becomes the same ids: {same_ids}')
    print(f'seconds: lode {seconds:.2f}, tokenizers {their_seconds:.2f}')
    sys.exit(0 if same == len(a) == len(b) and same_ids else 1)


if __name__ == '__main__':
    main()
