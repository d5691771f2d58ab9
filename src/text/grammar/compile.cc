#include "text/grammar/compile.h"

#include "text/grammar/regex.h"

namespace lode::text::grammar {

Result<std::shared_ptr<const Grammar>> CompileRegex(std::string_view pattern,
                                                    const CompileLimits& limits) {
  GrammarBuilder builder(limits.grammar);
  LODE_ASSIGN(const TermId term, RegexTerm(&builder.terms(), pattern,
                                           {.spelling = Spelling::kRaw, .whole = true}));
  return builder.Finish(builder.Regular(term));
}

}  // namespace lode::text::grammar
