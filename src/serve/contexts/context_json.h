// Contexts and what happened to them, as JSON.
#pragma once

#include "base/json.h"
#include "chat/contexts.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::serve {

Json ContextJson(const chat::ContextInfo& info, const text::Tokenizer& tokenizer);
// What was reused, and why no more. Texts of at most 40 characters, the caller's own.
Json ReuseJson(const runtime::Match& match, const text::Tokenizer& tokenizer);
Json ExplanationJson(const runtime::Explanation& explanation, const text::Tokenizer& tokenizer);
Json SavedJson(const chat::ContextReport& report);
Json RestoredJson(const chat::ContextReport& report, const text::Tokenizer& tokenizer);

}  // namespace lode::serve
