#include "text/parsers/output_format.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/support/shared.h"

namespace lode::text {
namespace {

TEST(OutputFormat, IsSeenInTheTemplate) {
  const struct {
    const char* text;
    OutputFormat format;
  } kCases[] = {
      {"'<tool_call>\\n<function=' ~ name ~ '>'", OutputFormat::kXml},
      {"{{- '\\n<tool_call>\\n{\"name\": \"' }}", OutputFormat::kHermes},
      {"'<TOOLCALL>[' ~", OutputFormat::kToolList},
      {"\"<|python_tag|>\" + tool_call.name", OutputFormat::kBareJson},
      {"<|start|>assistant<|channel|>final<|message|>", OutputFormat::kHarmony},
      {"", OutputFormat::kHermes},
  };
  for (const auto& one : kCases) EXPECT_EQ(DetectOutputFormat(one.text), one.format) << one.text;
}

TEST(OutputFormat, OfRealTemplatesIsFound) {
  const std::pair<const char*, OutputFormat> kTemplates[] = {
      {"nemo-nano3.jinja", OutputFormat::kXml},
      {"nemo-lightning35.jinja", OutputFormat::kXml},
      {"Qwen3-Coder.jinja", OutputFormat::kXml},
      {"meta-llama-Llama-3.1-8B-Instruct.jinja", OutputFormat::kBareJson},
      {"openai-gpt-oss-120b.jinja", OutputFormat::kHarmony}};
  for (const auto& [name, format] : kTemplates) {
    const std::string path = lode::testing::SharedFile(std::string("templates/") + name);
    if (path.empty()) GTEST_SKIP() << "no shared templates";
    const Result<std::string> text = ReadFile(path);
    ASSERT_TRUE(text.ok());
    EXPECT_EQ(DetectOutputFormat(*text), format) << name;
  }
}

TEST(OutputFormat, HasANameForEachAndSaysWhichThereAre) {
  for (const char* name : {"xml", "hermes", "toollist", "llama", "harmony"}) {
    const Result<OutputFormat> format = OutputFormatFromName(name);
    ASSERT_TRUE(format.ok());
    EXPECT_STREQ(OutputFormatName(*format), name);
  }
  const Result<OutputFormat> none = OutputFormatFromName("yaml");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().ToString().find("xml, hermes"), std::string::npos);
}

}  // namespace
}  // namespace lode::text
