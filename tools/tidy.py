#!/usr/bin/env python3
"""Keeps the house in order: a test that reads the sources as text and lists what breaks a rule.

The rules are the functions of RULES below; each one's docstring says what it wants. Lengths are a
ratchet: tools/tidy_ratchet.txt holds today's exceptions, and they may only shrink.

    tools/tidy.py              lists problems; exit code 1 if there are any
    tools/tidy.py --self-test  plants faults for every rule (tools/tidy_faults.py), expects to be told
    tools/tidy.py --ratchet    writes smaller numbers into the ratchet; never larger ones

Nothing but Python's standard library, so that a bare machine can run it.
"""
import ast
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SKIPPED_FOLDERS = {'.git', 'build', 'out', '__pycache__', '.cache'}
WEB_ENDINGS = ('.mjs', '.js', '.css')
TEXT_ENDINGS = ('.h', '.cc', '.inc', '.cu', '.py', '.sh', '.md', '.cmake', '.txt', '.json', '.jinja',
                '.html', '.yaml', '.service') + WEB_ENDINGS
TEXT_NAMES = {'dev', 'run', 'LICENSE', 'NOTICE', '.gitignore', '.clang-format'}
# Folders of data: what stands in them is an example of something, not ours to tidy.
DATA = ('tests/corpus/', 'tests/golden/', 'tests/text/', 'models/demo/')
RATCHET = 'tools/tidy_ratchet.txt'
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
RATCHET_SLACK = 25  # lines that something may shrink before the ratchet asks to be turned

# Libraries by the beginning of their headers, and where they may be included.
LIBRARIES = {
    'hwy/': ('src/kernels/cpu/',),
    'hwy/targets.h': ('src/kernels/',),
    'hwy/detect_targets.h': ('src/kernels/',),
    'nlohmann/': ('src/base/json.h',),
    'boost/': ('src/serve/',),
    'curl/': ('src/hub/',),
    'openssl/': ('src/hub/', 'src/runtime/saved/', 'src/runtime/fairness/', 'src/serve/',
                 'tests/hub/'),
    'zstd.h': ('src/runtime/saved/',),
    'xxhash.h': ('src/runtime/saved/', 'src/runtime/tier/'),
    'CLI/': ('src/cli/',),
    'pcre2.h': ('src/text/',),
    'toml++/': ('src/tune/toml.cc',),
    'utf8proc.h': ('src/text/', 'src/base/'),
    'gtest/': ('tests/', '_test.cc'),
    'benchmark/': ('bench/', 'lab/', '_bench.cc'),
    'cuda': ('src/kernels/cuda/',),
    'sys/socket.h': ('src/hub/', 'src/serve/', 'tests/'),
    'netinet/': ('src/hub/', 'src/serve/', 'tests/'),
    'arpa/': ('src/hub/', 'src/serve/', 'tests/'),
    'netdb.h': ('src/hub/', 'src/serve/', 'tests/'),
}
SYSTEM_HEADERS = re.compile(
    r'^([a-z_0-9]+|(sys|linux|asm)/[a-z_]+\.h|'
    r'(fcntl|unistd|signal|sched|termios|pthread|dirent|poll|dlfcn|pwd|errno|string|math|stdio|stdlib|'
    r'stdint|stddef|stdbool|time|limits|fenv|immintrin|cpuid|arm_neon|spawn|getopt|fnmatch|glob|locale|malloc|wchar)\.h)$')

# In code, without comments and strings.
BANNED_CODE = (
    (r'\bthrow\b', 'throw: errors are values (base/result.h)', ()),
    (r'(?<![\w:])assert\s*\(', 'assert: LODE_CHECK or an Error', ()),
    (r'^using\s+namespace\b', 'using namespace for a whole file', ()),
    (r'\bstd::(cout|cerr|clog|endl)\b', 'iostream output: std::fwrite, or return the text', ()),
    (r'\babort\s*\(', 'abort outside of a check',
     ('src/base/check.h', '_fuzz.cc', 'tests/')),
    (r'(?<!\w)(std::)?(_exit|exit|quick_exit)\s*\(', 'exit: only the program ends itself',
     ('src/cli/', 'tests/', '_test.cc', '_fuzz.cc')),
    (r'\bcatch\s*\(\s*\.\.\.', 'catch (...): name what a library throws', ()),
    (r'\b(rand|srand|strtok|gets|sprintf|strcpy|strcat)\s*\(', 'a function with hidden state or bounds',
     ()),
)
# In everything that is written, comments too.
BANNED_WORDS = (
    (r'\bTODO\b(?!\(#\d+\))', 'a TODO without an issue: TODO(#12)'),
    (r'\b(FIXME|XXX|HACK)\b', 'a marker: fix it, or TODO(#issue)'),
    (r'(?i)\bhack[y]\b', 'an apology instead of a reason'),
)
PRIVATE = (
    (r'(?<![\w.])/(wor[k]|roo[t]|hom[e])/\w*', "a path of somebody's machine"),
    (r'(?<![\w.])/tm[p]/(?!\w*X{6})\w+', 'a fixed temporary path: ask for a fresh folder'),
    (r'\b(pypi\.org|pythonhosted\.org|deb\.debian\.org|security\.debian\.org|registry\.npmjs\.org|'
     r'proxy\.golang\.org|static\.crates\.io|conda\.anaconda\.org)\b', "a package registry's host"),
)
FAMILIES = (
    r'(?i)(nemotron|llama|gpt[-_ ]?oss|qwen|mistral|mixtral|deepseek|gemma|jamba|zamba|granite|falcon)')
FAMILY_FOLDERS = ('src/model/arch/', 'src/text/', 'tests/', 'docs/', 'tools/', 'models/',
                  'src/quant/vocabulary.cc')  # GGUF's words for pre-tokenizers are families' names


class Tree:
    """Files of the repository: path -> text. Rules see nothing else, so a fault is easily planted."""

    def __init__(self, files, binary=()):
        self.files = dict(files)
        self.binary = set(binary)  # paths of files that are not read
        self._code = {}
        self._names = set(self.files) | self.binary
        for path in list(self._names):
            while '/' in path:
                path = path.rpartition('/')[0]
                self._names.add(path)

    @staticmethod
    def read(root):
        files, binary = {}, set()
        for folder, names, plain in os.walk(root):
            names[:] = sorted(n for n in names if n not in SKIPPED_FOLDERS)
            for name in sorted(plain):
                path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, '/')
                data = path.startswith(DATA) and not path.endswith('README.md')
                if data or not (name.endswith(TEXT_ENDINGS) or name in TEXT_NAMES):
                    binary.add(path)
                    continue
                with open(os.path.join(folder, name), 'rb') as file:
                    files[path] = file.read().decode('utf-8', errors='replace')
        return Tree(files, binary)

    def planted(self, path, text, append=False):
        files = dict(self.files)
        files[path] = files.get(path, '') + text if append else text
        return Tree(files, self.binary)

    def without(self, path):
        return Tree({p: t for p, t in self.files.items() if p != path}, self.binary)

    def exists(self, path):
        return path.rstrip('/') in self._names

    def cpp(self):
        return [p for p in self.files if p.endswith(('.h', '.cc', '.inc', '.cu'))]

    def code(self, path):
        """Text with comments and the insides of literals blanked; lines stay where they are."""
        if path not in self._code:
            self._code[path] = strip(self.files[path])
        return self._code[path]


LITERAL = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^()\\ \n]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|'
    r"(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.S)


def strip(text):
    blank = lambda match: re.sub(r'[^\n]', ' ', match.group(0))
    return LITERAL.sub(blank, text)


def comments(text):
    """(line number, comment) of C++ or, by '#', of everything else."""
    for match in LITERAL.finditer(text):
        if match.group(0).startswith(('//', '/*')):
            yield text.count('\n', 0, match.start()) + 1, match.group(0)


def hits(pattern, text):
    """(line number, match) of every match."""
    for match in re.finditer(pattern, text, re.M):
        yield text.count('\n', 0, match.start()) + 1, match


def layer_of(path):
    parts = path.split('/')
    return parts[1] if parts[0] == 'src' and len(parts) > 2 else parts[0]


def is_test(path):
    return path.startswith('tests/') or path.endswith(('_test.cc', '_fuzz.cc', '_bench.cc')) or \
        os.path.basename(path).startswith('test_')


def include_table(tree):
    """{folder: set of folders, or None for all}: the table in docs/ARCHITECTURE.md."""
    table = {}
    for match in re.finditer(r'^\| `(\w+)` \|([^|]*)\|', tree.files.get('docs/ARCHITECTURE.md', ''),
                             re.M):
        cell = match.group(2)
        table[match.group(1)] = None if 'everything' in cell else set(re.findall(r'`(\w+)`', cell))
    return table


# --- Rules: each takes a Tree and yields (path, line, message). ---------------------------------------


def rule_layers(tree):
    """A folder includes only what the table of docs/ARCHITECTURE.md allows; tests include anything."""
    table = include_table(tree)
    if not table:
        yield 'docs/ARCHITECTURE.md', 1, 'the include table is missing'
    for path in tree.cpp():
        layer = 'tests' if is_test(path) else layer_of(path)
        if layer not in table:
            yield path, 1, f'the folder {layer} is not in the include table of docs/ARCHITECTURE.md'
            continue
        for line, match in hits(r'^#include "([^"]+)"', tree.files[path]):
            name = match.group(1)
            target = name.split('/')[0]
            if name.startswith('hwy/') or table[layer] is None or target == layer:
                continue
            if '/' not in name:
                yield path, line, f'#include "{name}": write it from src/'
            elif target not in table[layer]:
                yield path, line, f'{layer} may not include {target} ("{name}")'


def libraries(tree):
    """(CMakeLists path, library, its folder, its dependencies as folders)."""
    for path in tree.files:
        if not path.endswith('CMakeLists.txt') or not path.startswith('src/'):
            continue
        text = re.sub(r'#[^\n]*', '', tree.files[path])
        for match in re.finditer(r'lode_library\(\s*(\w+)([^)]*)\)', text):
            found = re.search(r'\bDEPS\b((?:\s+[a-z]\w*)*)', match.group(2))
            deps = {d.split('_')[0] for d in found.group(1).split()} if found else set()
            yield path, match.group(1), layer_of(path), deps


def rule_links(tree):
    """target_link_libraries repeats the table: what a library includes it links, and no more than may be."""
    table = include_table(tree)
    linked = {}
    for path, library, layer, deps in libraries(tree):
        linked.setdefault(os.path.dirname(path), set()).update(deps)
        allowed = table.get(layer, set())
        for dep in sorted(deps):
            if allowed is not None and dep != layer and dep not in allowed:
                yield path, 1, f'{library} may not link {dep}'
    for path in tree.cpp():
        folder = os.path.dirname(path)
        while folder and folder not in linked:
            folder = os.path.dirname(folder)
        if not folder or is_test(path):
            continue
        for line, match in hits(r'^#include "(\w+)/', tree.files[path]):
            target = match.group(1)
            if f'src/{target}/' in path or not tree.exists(f'src/{target}'):
                continue
            if target not in linked[folder]:
                yield path, line, f'includes {target}, which {folder}/CMakeLists.txt does not link'


def rule_libraries(tree):
    """A foreign header is included only where its library belongs."""
    for path in tree.cpp():
        for line, match in hits(r'^#include (?:<([^>]+)>|"(hwy/[^"]+)")', tree.files[path]):
            name = match.group(1) or match.group(2)
            known = [key for key in LIBRARIES if name.startswith(key)]
            if known:
                places = LIBRARIES[max(known, key=len)]
                if not any(path.startswith(p) or path.endswith(p) for p in places):
                    yield path, line, f'<{name}> belongs to {", ".join(places)}'
            elif name.startswith('lode/'):
                if layer_of(path) not in ('api', 'cli', 'examples', 'tests', 'include'):
                    yield path, line, f'<{name}>: the public API is for those outside'
            elif not SYSTEM_HEADERS.match(name):
                yield path, line, f'<{name}>: a library that tools/tidy.py does not know'


def rule_code(tree):
    """No throw, assert, using namespace, iostream output, abort, exit, catch (...)."""
    for path in tree.cpp():
        for pattern, why, places in BANNED_CODE:
            if any(path.startswith(p) or path.endswith(p) for p in places):
                continue
            for line, _ in hits(pattern, tree.code(path)):
                yield path, line, why


def rule_words(tree):
    """No marker without an issue, and no apologies."""
    for path, text in tree.files.items():
        if path in ('tools/tidy.py', 'tools/tidy_faults.py'):
            continue
        for pattern, why in BANNED_WORDS:
            for line, match in hits(pattern, text):
                yield path, line, f'{match.group(0)}: {why}'


def rule_private(tree):
    """No path of a machine, no registry's host."""
    for path, text in tree.files.items():
        for pattern, why in PRIVATE:
            for line, match in hits(pattern, text):
                yield path, line, f'{match.group(0)}: {why}'


def rule_families(tree):
    """Names of model families stand in model/arch, text, tests, docs, tools and models only."""
    for path, text in tree.files.items():
        if path.startswith(FAMILY_FOLDERS) or is_test(path) or not path.startswith(
                ('src/', 'include/', 'bench/', 'lab/', 'examples/', 'cmake/')):
            continue
        if path.endswith('README.md'):
            continue
        # The program of that name is not the family; a build lists the tables' files.
        text = re.sub(r'llama\.cpp|arch/\w+\.cc', '', text)
        for line, match in hits(FAMILIES, text):
            yield path, line, f'{match.group(0)}: a family is a table in src/model/arch'


def rule_opening(tree):
    """A file begins by saying what it is; a .cc may leave that to a header of its folder or above."""
    for path, text in tree.files.items():
        base, ending = os.path.splitext(path)
        if ending in ('.h', '.cc', '.inc', '.cu'):
            folders = [os.path.dirname(m.group(1)) for _, m in hits(r'^#include "([^"]+)"', text)]
            excused = ending != '.h' and any(
                f and (os.path.dirname(path) + '/').startswith((f + '/', 'src/' + f + '/'))
                for f in folders)
            if not excused and not text.startswith(('//', '/*')):
                yield path, 1, 'begins without a comment that says what it is'
            if ending == '.h' and not re.search(r'^#pragma once$', text, re.M) and \
                    not path.endswith('-inl.h'):
                yield path, 1, 'has no #pragma once'
        elif ending in WEB_ENDINGS and not text.startswith(('//', '/*', '#!')):
            yield path, 1, 'begins without a comment that says what it is'
        elif ending == '.py' and not re.match(r'(#!.*\n)?(#|r?""")', text):
            yield path, 1, 'begins without a comment that says what it is'
        elif ending == '.md' and not re.match(r'(---\n(.*\n)*?---\n+)?# ', text):  # a model card's head
            yield path, 1, 'begins without a title'


def rule_whitespace(tree):
    """No trailing blanks, tabs, carriage returns; one newline at the end."""
    for path, text in tree.files.items():
        if path.endswith('.json') or path in ('LICENSE',):
            continue
        for number, line in enumerate(text.split('\n'), 1):
            if line != line.rstrip():
                yield path, number, 'trailing whitespace'
            if '\t' in line:
                yield path, number, 'a tab'
        if text and (not text.endswith('\n') or text.endswith('\n\n')):
            yield path, text.count('\n') + 1, 'ends without exactly one newline'


def rule_dead(tree):
    """Every source is built by some CMakeLists.txt, every header included by somebody."""
    named = set()
    for path in tree.files:
        if path.endswith(('CMakeLists.txt', '.cmake')):
            folder = os.path.dirname(path)
            for word in re.findall(r'[\w./${}-]+\.(?:cc|cu|h|inc)\b', tree.files[path]):
                word = word.replace('${PROJECT_SOURCE_DIR}/', '//')
                named.add(word[2:] if word.startswith('//') else
                          os.path.normpath(os.path.join(folder, word)))
    included = set()
    for path in tree.cpp():
        for _, match in hits(r'^#include "([^"]+)"', tree.files[path]):
            name = match.group(1)
            included.update((name, 'src/' + name, os.path.join(os.path.dirname(path), name)))
    for path in tree.cpp():
        if path.startswith(('include/', 'examples/', 'lab/', 'tests/compile_fail/')):
            continue
        if path.endswith(('.cc', '.cu')) and path not in named:
            yield path, 1, 'no CMakeLists.txt builds it'
        if path.endswith(('.h', '.inc')) and path not in included:
            yield path, 1, 'nobody includes it'


def rule_readmes(tree):
    """Every folder of src/, every library's folder and every folder at the top has a README.md."""
    folders = {'/'.join(p.split('/')[:2]) for p in tree.files if p.count('/') > 1 and
               p.startswith('src/')}
    folders |= {os.path.dirname(p) for p in tree.files if p.startswith('src/') and
                p.endswith('/CMakeLists.txt')} - {'src'}
    folders |= {p.split('/')[0] for p in tree.files.keys() | tree.binary
                if '/' in p and not p.startswith('.')} - {'docs', 'cmake', 'include', 'src'}
    for folder in sorted(folders):
        if not tree.exists(folder + '/README.md'):
            yield folder + '/README.md', 1, 'is missing: one paragraph, what the folder is and is not'


MENTION = (
    r'(?<![\w./:@$}-])((?:docs|src|tests|tools|cmake|models|examples|runs|bench|lab|include|base|tensor|'
    r'text|formats|kernels|model|runtime|hub|quant|chat|api|cli|arch|blocks|ref|cpu|cases|support)'
    r'/[\w./-]*\w)')
ENDED = re.compile(r'\.(h|cc|md|py|txt|cmake|sh|json|inc)$')


def rule_mentions(tree):
    """A path that a document or a comment mentions exists."""
    for path, text in tree.files.items():
        if path.endswith('.md'):
            found = list(enumerate(text.split('\n'), 1))
        elif path.endswith(('.h', '.cc', '.inc')):
            found = list(comments(text))
        elif path.endswith(('.cmake', 'CMakeLists.txt', '.py')) or path == 'dev':
            found = [(n, l) for n, l in enumerate(text.split('\n'), 1) if l.lstrip().startswith('#')]
        else:
            continue
        here = os.path.dirname(path)
        for start, words in found:
            for line, match in hits(MENTION, words):
                name = match.group(1)
                top = name.split('/')[0] in ('docs', 'src', 'tests', 'tools', 'cmake', 'models',
                                             'examples', 'runs', 'bench', 'lab', 'include')
                following = words[match.end():match.end() + 1]
                if re.search(r'[A-Z]{2,}(/|$)', name) or following in ('*', '{', '<', '$'):
                    continue  # a pattern, not a name
                if not ENDED.search(name) and (not top or not path.endswith('.md')):
                    continue
                places = ['', 'src/', here + '/', os.path.dirname(here) + '/',
                          'src/' + layer_of(path) + '/']
                if not any(tree.exists(place + name) for place in places):
                    yield path, start + line - 1, f'mentions {name}, which does not exist'
            for _, match in hits(r'\]\(([^)#:]+)(#[^)]*)?\)', words if path.endswith('.md') else ''):
                if not tree.exists(os.path.normpath(os.path.join(here, match.group(1)))):
                    yield path, start, f'links to {match.group(1)}, which does not exist'


def rule_commands(tree):
    """docs/CLI.md lists the program's verbs, and no document shows a flag that no verb has."""
    verbs, flags = set(), {'--help'}
    for path in tree.files:
        if path.startswith('src/cli/') and path.endswith('.cc') and not is_test(path):
            verbs.update(m.group(1) for _, m in hits(r'add_subcommand\(\s*"([a-z]+)"', tree.files[path]))
            flags.update(m.group(0) for _, m in hits(r'--[a-z][a-z-]+', tree.files[path]))
    page = 'docs/CLI.md'
    listed = {}
    for line, match in hits(r'^\| `([a-z]+)\b', tree.files.get(page, '')):
        listed[match.group(1)] = line
    for verb in sorted(verbs - set(listed)):
        yield page, 1, f'does not list the verb {verb}'
    for verb in sorted(set(listed) - verbs):
        yield page, listed[verb], f'lists {verb}, which is no verb'
    for path in ('README.md', page):
        for number, line in enumerate(tree.files.get(path, '').split('\n'), 1):
            if path == page or line.startswith('    lode '):
                for flag in re.findall(r'(?<![\w-])--[a-z][a-z-]+', line):
                    if flag not in flags:
                        yield path, number, f'shows {flag}, which no verb has'


# --- The ratchet ---------------------------------------------------------------------------------------


def cpp_functions(code):
    """(name, first line, lines) of functions with a body, outermost ones; by counting braces."""
    code = re.sub(r'^[ \t]*#(?:[^\n\\]|\\\n|\\.)*', lambda m: re.sub(r'[^\n]', ' ', m.group(0)), code,
                  flags=re.M)
    found, stack, start = [], [], 0  # stack: None for a scope, else [name, offset] of a function
    for match in re.finditer(r'[{};]', code):
        at = match.start()
        inside = any(entry is not None for entry in stack)
        if match.group(0) == '{':
            head = code[start:at].strip()
            entry = None
            if not inside and '(' in head and not re.match(
                    r'(namespace|(template\s*<.*>\s*)?(class|struct|union|enum))\b[^()]*$', head, re.S) \
                    and not re.search(r'=\s*$', head):
                words = re.findall(r'[\w:~]+', head[:head.find('(')])
                name = words[-1] if words else '?'
                if name in ('TEST', 'TEST_F', 'TEST_P'):
                    name = re.sub(r'\s+', '', head[head.find('('):head.find(')') + 1])
                entry = [name, start + len(code[start:at]) - len(code[start:at].lstrip())]
            elif not inside and re.search(r'=\s*$', head):
                entry = ['', at]  # data
            stack.append(entry)
        elif match.group(0) == '}' and stack:
            entry = stack.pop()
            if entry and entry[0] and not any(e is not None for e in stack):
                first = code.count('\n', 0, entry[1]) + 1
                found.append((entry[0], first, code.count('\n', 0, at) + 2 - first))
        start = at + 1
    return found


def python_functions(text):
    return [(node.name, node.lineno, node.end_lineno - node.lineno + 1)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def sources(tree):
    return [(path, text) for path, text in tree.files.items() if path == 'dev' or path.endswith(
        ('.h', '.cc', '.inc', '.cu', '.py', '.sh', '.cmake', 'CMakeLists.txt') + WEB_ENDINGS)]


def measured(tree):
    """{(kind, path, name): (number, line)} of everything that is over its limit."""
    over, columns = {}, 0
    for path, text in sources(tree):
        lines = text.split('\n')
        if len(lines) - 1 > FILE_LINES_MAX and not path.endswith('.inc'):
            over['file', path, '-'] = (len(lines) - 1, 1)
        # What ./dev format formats, and what no tool does.
        if path.endswith(('.h', '.cc', '.cu') + WEB_ENDINGS):
            columns += sum(len(line) > COLUMNS_MAX for line in lines)
        functions = []
        if path.endswith(('.h', '.cc', '.cu')):
            functions = cpp_functions(tree.code(path))
        elif path.endswith('.py'):
            functions = python_functions(text)
        for name, line, count in functions:
            if count > FUNCTION_LINES_MAX:
                over['function', path, name] = (count, line)
    if columns:
        over['columns', 'everywhere', '-'] = (columns, 1)
    return over


def stored(tree):
    entries = {}
    for line in tree.files.get(RATCHET, '').split('\n'):
        if line and not line.startswith('#'):
            kind, number, path, name = line.split()
            entries[kind, path, name] = int(number)
    return entries


MEANING = {'file': f'{{}} lines; a file over {FILE_LINES_MAX} is a question: can a reader hold it?',
           'function': f'{{}} lines; a function over {FUNCTION_LINES_MAX} is a question',
           'columns': f"{{}} lines over {COLUMNS_MAX} columns: grep -rnE '^.{{{{{COLUMNS_MAX + 1},}}}}' src"}


def rule_ratchet(tree):
    """Files, functions and lines keep their length; what is too long already may only shrink."""
    now, limits = measured(tree), stored(tree)
    for key, (number, line) in now.items():
        kind, path, name = key
        what = ('' if name == '-' else name + ': ') + MEANING[kind].format(number)
        if key not in limits:
            yield path, line, what
        elif number > limits[key]:
            yield path, line, f'{what} (it was {limits[key]}; the ratchet only goes down)'
        elif kind != 'columns' and number <= limits[key] - RATCHET_SLACK:
            yield path, line, f'shorter than {RATCHET} remembers: tools/tidy.py --ratchet'
    for key in limits:
        if key not in now:
            yield RATCHET, 1, f'{" ".join(key)} is short enough now: tools/tidy.py --ratchet'


def turn_ratchet(tree):
    now, limits = measured(tree), stored(tree)
    head = [line for line in tree.files.get(RATCHET, '').split('\n') if line.startswith('#')]
    rows = [f'{key[0]} {min(number, now[key][0])} {key[1]} {key[2]}'
            for key, number in sorted(limits.items()) if key in now]
    with open(os.path.join(ROOT, RATCHET), 'w', encoding='utf-8') as file:
        file.write('\n'.join(head + rows) + '\n')


RULES = (rule_layers, rule_links, rule_libraries, rule_code, rule_words, rule_private, rule_families,
         rule_opening, rule_whitespace, rule_dead, rule_readmes, rule_mentions, rule_commands, rule_ratchet)


def run_rules(tree, rules=RULES):
    return [(rule.__name__[5:], path, line, message)
            for rule in rules for path, line, message in rule(tree)]


def main(arguments):
    tree = Tree.read(ROOT)
    if arguments == ['--self-test']:
        import tidy_faults
        silent, count = tidy_faults.self_test(tree)
        for line in silent:
            print(line)
        print(f'{count} faults planted, {len(silent)} not noticed')
        return 1 if silent else 0
    if arguments == ['--ratchet']:
        turn_ratchet(tree)
        return 0
    if arguments:
        print(__doc__)
        return 2
    problems = run_rules(tree)
    for rule, path, line, message in problems:
        print(f'{path}:{line}: {message} [{rule}]')
    print(f'{len(tree.files)} files, {len(RULES)} rules, {len(problems)} problems')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
