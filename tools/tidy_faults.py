"""Proves that each rule of tools/tidy.py can fail: faults, and what must be said about them.

A fault lives only in memory: a Tree with one file changed, added or removed.
"""
from tidy import (COLUMNS_MAX, FILE_LINES_MAX, FUNCTION_LINES_MAX, RATCHET, RULES, cpp_functions,
                  measured, strip)


def faults():
    """(rule, path, text to append, or None to remove the file, or a whole new file if the path is new)"""
    hacky = 'hack' + 'y'
    long_function = 'void Long() {\n' + '  Step();\n' * FUNCTION_LINES_MAX + '}\n'
    return (
        ('layers', 'src/base/result.cc', '#include "model/spec.h"\n'),
        ('layers', 'src/model/spec.h', '#include "formats/gguf.h"\n'),
        ('layers', 'src/elsewhere/new.cc', '// A folder that the table does not have.\n'),
        ('layers', 'docs/ARCHITECTURE.md', None),
        ('links', 'src/base/CMakeLists.txt', 'lode_library(base_more DEPS model)\n'),
        ('links', 'src/runtime/engine.cc', '#include "formats/gguf.h"\n'),
        ('libraries', 'src/model/forward.cc', '#include "hwy/highway.h"\n'),
        ('libraries', 'src/runtime/engine.cc', '#include <curl/curl.h>\n'),
        ('libraries', 'src/model/config.cc', '#include <nlohmann/json.hpp>\n'),
        ('libraries', 'src/model/config.cc', '#include <sys/socket.h>\n'),
        ('libraries', 'src/runtime/engine.cc', '#include <zstd.h>\n'),
        ('libraries', 'src/runtime/engine.cc', '#include <xxhash.h>\n'),
        ('libraries', 'src/model/config.cc', '#include <boost/any.hpp>\n'),
        ('code', 'src/base/result.cc', 'void F() { throw 1; }\n'),
        ('code', 'src/base/result.cc', 'void F() { assert(true); }\n'),
        ('code', 'src/base/result.cc', 'using namespace std;\n'),
        ('code', 'src/base/result.cc', 'void F() { std::cout << 1; }\n'),
        ('code', 'src/base/result.cc', 'void F() { std::abort(); }\n'),
        ('code', 'src/base/result.cc', 'void F() { exit(1); }\n'),
        ('words', 'src/base/result.cc', f'// A {hacky} thing.\n'),
        ('words', 'docs/HACKING.md', 'TO' + 'DO: later\n'),
        ('private', 'docs/HACKING.md', 'See /wo' + 'rk/notes.\n'),
        ('private', 'src/base/file.cc', '// /tm' + 'p/here\n'),
        ('private', 'cmake/lode.cmake', '# from py' + 'pi.org\n'),
        ('families', 'src/runtime/engine.cc', '// Ne' + 'motron is different.\n'),
        ('families', 'src/kernels/ops.h', 'enum class Family { kQw' + 'en };\n'),
        ('opening', 'src/base/new.h', '#pragma once\nint F();\n'),
        ('opening', 'src/base/new.h', '// A header without a guard.\nint F();\n'),
        ('opening', 'src/base/new.cc', 'int F() { return 1; }\n'),
        ('opening', 'tools/new.py', 'print(1)\n'),
        ('opening', 'docs/new.md', 'no title\n'),
        ('whitespace', 'src/base/result.cc', 'int x; \n'),
        ('whitespace', 'src/base/result.cc', '\tint x;\n'),
        ('whitespace', 'src/base/result.cc', 'int x;'),
        ('whitespace', 'src/base/result.cc', 'int x;\r\n'),
        ('dead', 'src/base/new.cc', '// Built by nobody.\n'),
        ('dead', 'src/base/new.h', '// Included by nobody.\n#pragma once\n'),
        ('readmes', 'src/base/README.md', None),
        ('readmes', 'attic/new.py', '# A folder at the top without a README.md.\n'),
        ('mentions', 'docs/HACKING.md', 'See `docs/NOTHING-here.md`.\n'),
        ('mentions', 'docs/HACKING.md', 'See [this](nothing.md).\n'),
        ('mentions', 'src/base/result.cc', '// See base/nothing.h for more.\n'),
        ('commands', 'docs/CLI.md', '| `fly MODEL` | is no verb |\n'),
        ('commands', 'docs/CLI.md', 'Use `--fly`.\n'),
        ('commands', 'src/cli/fly.cc', '// A verb. app.add_subcommand("fly")\n'),
        ('commands', 'README.md', '    lode chat demo --fly\n'),
        ('ratchet', 'src/base/result.cc', '// A line.\n' * FILE_LINES_MAX),
        ('ratchet', 'src/base/result.cc', '// ' + 'w' * COLUMNS_MAX + '\n'),
        ('ratchet', 'src/base/result.cc', long_function),
        ('ratchet', 'src/base/result.cc', 'namespace lode {\n' + long_function + '}\n'),
        ('ratchet', 'tools/tidy.py', 'def long():\n' + '    pass\n' * FUNCTION_LINES_MAX),
        ('ratchet', RATCHET, 'file 9999 src/base/nothing.cc -\n'),
    )


def self_test(tree):
    """Plants every fault alone; its rule must say something that it did not say before."""
    # The ratchet as tight as it gets, so that one line more must be seen whatever is stored today.
    rows = [f'{kind} {number} {path} {name}' for (kind, path, name), (number, _)
            in measured(tree).items()]
    tree = tree.planted(RATCHET, '\n'.join(rows) + '\n')
    by_name = {rule.__name__[5:]: rule for rule in RULES}
    before = {name: {(p, m) for p, _, m in rule(tree)} for name, rule in by_name.items()}
    silent = []
    planted = faults()
    for name, path, text in planted:
        if text is None:
            with_fault = tree.without(path)
        else:
            with_fault = tree.planted(path, text, append=path in tree.files)
        after = {(p, m) for p, _, m in by_name[name](with_fault)}
        if not after - before[name]:
            silent.append(f'{name}: says nothing about {(text or "a removed file").strip()[:60]!r} '
                          f'in {path}')
    for name in sorted(set(by_name) - {name for name, _, _ in planted}):
        silent.append(f'{name}: no fault is planted for this rule')
    # Words inside literals and comments are no code, and the counting of lines is right.
    sample = 'namespace a {\nconst char* k = "throw {"; // throw {\nint F(int x) {\n  return x;\n}\n}\n'
    if cpp_functions(strip(sample)) != [('F', 3, 3)] or 'throw' in strip(sample):
        silent.append(f'functions are counted wrongly: {cpp_functions(strip(sample))}')
    return silent, len(planted)
