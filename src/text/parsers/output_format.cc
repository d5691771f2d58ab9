#include "text/parsers/output_format.h"

#include <array>
#include <string>

#include "text/parsers/lookahead.h"

namespace lode::text {
namespace {

constexpr std::array kFormats = {OutputFormat::kXml, OutputFormat::kHermes, OutputFormat::kToolList,
                                 OutputFormat::kBareJson, OutputFormat::kHarmony};

}  // namespace

OutputFormat DetectOutputFormat(std::string_view chat_template) {
  const auto has = [&](std::string_view text) {
    return chat_template.find(text) != std::string_view::npos;
  };
  if (has("<|channel|>") && has("<|message|>")) return OutputFormat::kHarmony;
  if (has(kFunctionOpen)) return OutputFormat::kXml;
  if (has(kCallListOpen)) return OutputFormat::kToolList;
  if (has(kCallOpen)) return OutputFormat::kHermes;
  if (has(kPythonTag) || has("{\"name\": function name, \"parameters\"")) {
    return OutputFormat::kBareJson;
  }
  return OutputFormat::kHermes;
}

const char* OutputFormatName(OutputFormat format) {
  switch (format) {
    case OutputFormat::kXml:
      return "xml";
    case OutputFormat::kHermes:
      return "hermes";
    case OutputFormat::kToolList:
      return "toollist";
    case OutputFormat::kBareJson:
      return "llama";
    case OutputFormat::kHarmony:
      return "harmony";
  }
  return "xml";
}

Result<OutputFormat> OutputFormatFromName(std::string_view name) {
  std::string names;
  for (const OutputFormat format : kFormats) {
    if (name == OutputFormatName(format)) return format;
    names += (names.empty() ? "" : ", ") + std::string(OutputFormatName(format));
  }
  return Error(Code::kBadInput, "unknown form of tool calls: " + std::string(name),
               "one of " + names);
}

}  // namespace lode::text
