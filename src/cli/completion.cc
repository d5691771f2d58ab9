#include "cli/completion.h"

#include <memory>
#include <vector>

#include "base/text.h"
#include "cli/console.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct Choice {
  std::vector<std::string> names;  // "-n", "--tokens"; empty: positional
  std::string label;               // of its value or of the positional
  std::string help;
  bool takes_value = false;
  bool repeatable = false;
  bool number = false;
  std::vector<std::string> values;  // all there are; empty: anything
};

struct Verb {
  std::string name, help;
  std::vector<Choice> choices;
};

// "TEXT:{auto,bf16}" -> auto, bf16. Other types have no list.
std::vector<std::string> ValuesOfType(const std::string& type) {
  std::vector<std::string> values;
  const size_t open = type.find('{');
  const size_t close = type.find('}', open == std::string::npos ? 0 : open);
  if (open == std::string::npos || close == std::string::npos) return values;
  std::string value;
  for (size_t i = open + 1; i <= close; ++i) {
    if (type[i] != ',' && type[i] != '}') {
      value += type[i];
    } else if (!value.empty()) {
      values.push_back(std::move(value));
      value.clear();
    }
  }
  return values;
}

Choice ChoiceOf(const CLI::Option& option) {
  Choice choice;
  for (const std::string& name : option.get_snames()) choice.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) choice.names.push_back("--" + name);
  const std::string type = option.get_type_name();
  choice.label = choice.names.empty() ? option.get_name(true) : type.substr(0, type.find(':'));
  choice.help = option.get_description();
  choice.takes_value = option.get_items_expected_max() > 0;
  choice.repeatable = option.get_items_expected_max() > 1;
  choice.number =
      type.rfind("INT", 0) == 0 || type.rfind("UINT", 0) == 0 || type.rfind("FLOAT", 0) == 0;
  choice.values = ValuesOfType(type);
  return choice;
}

Verb VerbOf(const CLI::App& app) {
  Verb verb = {app.get_name(), app.get_description(), {}};
  for (const CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    if (!option->get_group().empty()) verb.choices.push_back(ChoiceOf(*option));
  }
  return verb;
}

std::vector<Verb> VerbsOf(const CLI::App& app) {
  std::vector<Verb> verbs;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!verb->get_group().empty()) verbs.push_back(VerbOf(*verb));
  }
  return verbs;
}

std::vector<std::string> FlagNames(const Verb& verb) {
  std::vector<std::string> names;
  for (const Choice& choice : verb.choices) {
    names.insert(names.end(), choice.names.begin(), choice.names.end());
  }
  return names;
}

// The words that its positionals may be, and whether files may be too.
std::vector<std::string> PositionalWords(const Verb& verb, bool* files) {
  std::vector<std::string> words;
  *files = false;
  for (const Choice& choice : verb.choices) {
    if (!choice.names.empty()) continue;
    if (choice.label == "MODEL") words.push_back("demo");
    words.insert(words.end(), choice.values.begin(), choice.values.end());
    *files = *files || choice.values.empty();
  }
  return words;
}

// Replaces each character of `special` by itself behind `escape`.
std::string Escape(const std::string& text, const std::string& special, const std::string& escape) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string::npos) out += escape;
    out += c;
  }
  return out;
}

// Inside single quotes, for bash and zsh.
std::string Quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// --- bash
// ----------------------------------------------------------------------------------------------

std::string BashVerb(const Verb& verb) {
  std::string out = "    " + verb.name + ")\n      case \"$prev\" in\n";
  for (const Choice& choice : verb.choices) {
    if (choice.names.empty() || !choice.takes_value) continue;
    out += "        " + Join(choice.names, "|") + ") ";
    if (!choice.values.empty()) {
      out += "_lode_words " + Quoted(Join(choice.values, " "));
    } else {
      out += choice.number ? ":" : "_lode_files";
    }
    out += "; return ;;\n";
  }
  out += "      esac\n      case \"$cur\" in\n        -*) _lode_words " +
         Quoted(Join(FlagNames(verb), " ")) + " ;;\n";
  bool files = false;
  const std::string words = Join(PositionalWords(verb, &files), " ");
  if (files || !words.empty()) {
    out += std::string("        *) ") + (files ? "_lode_files " : "_lode_words ") + Quoted(words) +
           " ;;\n";
  }
  return out + "      esac ;;\n";
}

std::string BashScript(const Verb& program, const std::vector<Verb>& verbs) {
  std::vector<std::string> first = FlagNames(program);
  std::string cases;
  for (const Verb& verb : verbs) {
    first.push_back(verb.name);
    cases += BashVerb(verb);
  }
  return "# bash completion of lode: lode completion bash > "
         "~/.local/share/bash-completion/completions/lode\n"
         "_lode_words() { mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\"); }\n"
         "_lode_files() {\n"
         "  compopt -o filenames 2> /dev/null\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\"; compgen -f -- \"$cur\")\n"
         "}\n"
         "_lode() {\n"
         "  local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
         "  COMPREPLY=()\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
         "    _lode_words " +
         Quoted(Join(first, " ")) +
         "\n    return\n  fi\n"
         "  case \"${COMP_WORDS[1]}\" in\n" +
         cases + "  esac\n}\ncomplete -F _lode lode\n";
}

// --- zsh
// -----------------------------------------------------------------------------------------------

std::string ZshValue(const Choice& choice) {
  std::string values = choice.names.empty() && choice.label == "MODEL" ? "demo" : "";
  if (!choice.values.empty()) values = Join(choice.values, " ");
  const std::string label = Escape(choice.label, ":\\", "\\");
  if (choice.number) return ":" + label + ":";
  if (values.empty()) return ":" + label + ":_files";
  if (!choice.values.empty()) return ":" + label + ":(" + values + ")";
  return ":" + label + ":{_alternative 'word:word:(" + values + ")' 'file:file:_files'}";
}

std::string ZshSpec(const Choice& choice) {
  if (choice.names.empty()) {
    return "        " + Quoted((choice.repeatable ? "*" : "") + ZshValue(choice)) + " \\\n";
  }
  const std::string rest =
      "[" + Escape(choice.help, "[]:\\", "\\") + "]" + (choice.takes_value ? ZshValue(choice) : "");
  const std::string excludes = choice.repeatable ? "*" : "(" + Join(choice.names, " ") + ")";
  std::string out;
  for (const std::string& name : choice.names) {
    out += "        " + Quoted(excludes + name + rest) + " \\\n";
  }
  return out;
}

std::string ZshScript(const Verb& program, const std::vector<Verb>& verbs) {
  std::string list;
  std::string cases;
  for (const Verb& verb : verbs) {
    list += "    " + Quoted(Escape(verb.name, ":", "\\") + ":" + verb.help) + "\n";
    cases += "    " + verb.name + ")\n      _arguments -s \\\n";
    for (const Choice& choice : verb.choices) cases += ZshSpec(choice);
    cases += "        && return 0 ;;\n";
  }
  std::string flags;
  for (const Choice& choice : program.choices) flags += ZshSpec(choice);
  return "#compdef lode\n"
         "# zsh completion of lode: lode completion zsh > a folder of $fpath, as _lode\n"
         "_lode() {\n"
         "  local curcontext=\"$curcontext\" state line ret=1\n"
         "  local -a verbs\n  verbs=(\n" +
         list + "  )\n  _arguments -C \\\n" + flags +
         "        '1:verb:->verb' '*::rest:->rest' && ret=0\n"
         "  case \"$state\" in\n"
         "  verb) _describe 'verb' verbs && ret=0 ;;\n"
         "  rest)\n    case \"$line[1]\" in\n" +
         cases +
         "    esac ;;\n  esac\n  return ret\n}\n"
         "if [ \"$funcstack[1]\" = _lode ]; then _lode \"$@\"; else compdef _lode lode; fi\n";
}

// --- fish
// ----------------------------------------------------------------------------------------------

std::string FishQuoted(const std::string& text) { return "'" + Escape(text, "'\\", "\\") + "'"; }

std::string FishChoice(const std::string& condition, const Choice& choice) {
  std::string out = "complete -c lode -n " + FishQuoted(condition);
  if (choice.names.empty()) {
    std::vector<std::string> values = choice.values;
    if (choice.label == "MODEL") values.push_back("demo");
    out += choice.values.empty() ? " -F" : " -f";
    return values.empty() ? out + "\n" : out + " -a " + FishQuoted(Join(values, " ")) + "\n";
  }
  for (const std::string& name : choice.names) {
    out += name.rfind("--", 0) == 0 ? " -l " + name.substr(2) : " -s " + name.substr(1);
  }
  if (choice.takes_value) out += choice.number || !choice.values.empty() ? " -x" : " -r -F";
  if (!choice.values.empty()) out += " -a " + FishQuoted(Join(choice.values, " "));
  return out + " -d " + FishQuoted(choice.help) + "\n";
}

std::string FishScript(const Verb& program, const std::vector<Verb>& verbs) {
  std::string out =
      "# fish completion of lode: lode completion fish > ~/.config/fish/completions/lode.fish\n"
      "complete -c lode -f\n";
  for (const Choice& choice : program.choices) out += FishChoice("__fish_use_subcommand", choice);
  for (const Verb& verb : verbs) {
    out += "complete -c lode -n __fish_use_subcommand -a " + verb.name + " -d " +
           FishQuoted(verb.help) + "\n";
  }
  for (const Verb& verb : verbs) {
    for (const Choice& choice : verb.choices) {
      out += FishChoice("__fish_seen_subcommand_from " + verb.name, choice);
    }
  }
  return out;
}

}  // namespace

std::string CompletionScript(const CLI::App& app, Shell shell) {
  const Verb program = VerbOf(app);
  const std::vector<Verb> verbs = VerbsOf(app);
  switch (shell) {
    case Shell::kBash:
      return BashScript(program, verbs);
    case Shell::kZsh:
      return ZshScript(program, verbs);
    case Shell::kFish:
      return FishScript(program, verbs);
  }
  return "";
}

void AddCompletion(CLI::App& app, Action* action) {
  auto shell = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand("completion", "Print the completion script of a shell");
  verb->add_option("SHELL", *shell, "whose")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  verb->callback([&app, shell, action] {
    *action = [&app, shell]() -> Result<void> {
      Print(CompletionScript(app, *shell == "bash"  ? Shell::kBash
                                  : *shell == "zsh" ? Shell::kZsh
                                                    : Shell::kFish));
      return {};
    };
  });
}

}  // namespace lode::cli
