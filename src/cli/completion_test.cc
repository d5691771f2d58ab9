// The scripts are run by the shells themselves where they are installed; bash always is.
#include "cli/completion.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>

namespace lode::cli {
namespace {

std::string RunShell(const std::string& command) {
  std::string output;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return output;
  std::array<char, 4096> buffer;
  size_t count;
  while ((count = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0) {
    output.append(buffer.data(), count);
  }
  const int status = ::pclose(pipe);
  return status == 0 ? output : "failed: " + output;
}

bool Installed(const std::string& program) {
  return !RunShell("command -v " + program + " || true").empty();
}

class Completion : public testing::Test {
 protected:
  Completion() : app_("A program.", "lode") {
    app_.set_version_flag("--version", "1");
    CLI::App* talk = app_.add_subcommand("talk", "It's [a] verb: with signs");
    talk->add_option("MODEL", text_, "which")->required();
    talk->add_option("-n,--tokens", number_, "how many");
    talk->add_option("--mode", text_, "the mode")->check(CLI::IsMember({"auto", "exact"}));
    talk->add_option("--secret", text_, "not shown")->group("");
    talk->add_flag("--json", flag_, "as JSON");
    CLI::App* shell = app_.add_subcommand("shell", "Another verb");
    shell->add_option("KIND", text_, "which")->check(CLI::IsMember({"round", "square"}));
  }

  std::string Write(Shell shell) {
    const std::string path =
        testing::TempDir() + "/lode_completion_" + std::to_string(static_cast<int>(shell));
    std::ofstream(path) << CompletionScript(app_, shell);
    return path;
  }

  // What bash offers for the last of `words`.
  std::string Offer(const std::string& words) {
    return RunShell("cd / && bash -c '. " + Write(Shell::kBash) + "; COMP_WORDS=(" + words +
                    "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _lode; "
                    "printf \"%s \" \"${COMPREPLY[@]}\"'");
  }

  CLI::App app_;
  std::string text_;
  int number_ = 0;
  bool flag_ = false;
};

TEST_F(Completion, BashOffersVerbsFirst) {
  EXPECT_EQ(Offer("lode \"\""), "-h --help --version talk shell ");
  EXPECT_EQ(Offer("lode ta"), "talk ");
}

TEST_F(Completion, BashOffersTheFlagsOfTheVerb) {
  EXPECT_EQ(Offer("lode talk --"), "--help --tokens --mode --json ");
  EXPECT_EQ(Offer("lode shell --"), "--help ");
}

TEST_F(Completion, BashOffersTheValuesOfAFlag) {
  EXPECT_EQ(Offer("lode talk --mode \"\""), "auto exact ");
  EXPECT_EQ(Offer("lode talk --mode e"), "exact ");
  EXPECT_EQ(Offer("lode talk --tokens \"\""), " ");
  EXPECT_EQ(Offer("lode shell r"), "round ");
}

TEST_F(Completion, BashOffersTheDemoAndFilesAsModels) {
  EXPECT_EQ(Offer("lode talk dem"), "demo ");
  EXPECT_EQ(Offer("lode talk /et"), "/etc ");
}

TEST_F(Completion, HiddenOptionsAreInNoScript) {
  for (const Shell shell : {Shell::kBash, Shell::kZsh, Shell::kFish}) {
    const std::string script = CompletionScript(app_, shell);
    EXPECT_EQ(script.find("secret"), std::string::npos);
    EXPECT_NE(script.find("tokens"), std::string::npos);
  }
}

TEST_F(Completion, ZshTakesTheScript) {
  const std::string script = CompletionScript(app_, Shell::kZsh);
  EXPECT_NE(script.find("'talk:It'\\''s [a] verb: with signs'"), std::string::npos) << script;
  EXPECT_NE(script.find("'(--mode)--mode[the mode]:TEXT:(auto exact)'"), std::string::npos)
      << script;
  if (Installed("zsh")) {
    EXPECT_EQ(RunShell("zsh -n " + Write(Shell::kZsh) + " 2>&1"), "");
  }
}

TEST_F(Completion, FishTakesTheScript) {
  const std::string script = CompletionScript(app_, Shell::kFish);
  EXPECT_NE(script.find("-a talk -d 'It\\'s [a] verb: with signs'"), std::string::npos) << script;
  if (Installed("fish")) {
    EXPECT_EQ(RunShell("fish -n " + Write(Shell::kFish) + " 2>&1"), "");
    EXPECT_EQ(RunShell("fish -c 'source " + Write(Shell::kFish) +
                       "; complete -C \"lode talk --mode \"' | cut -f1"),
              "auto\nexact\n");
  }
}

}  // namespace
}  // namespace lode::cli
