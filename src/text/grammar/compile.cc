#include "text/grammar/compile.h"

#include "text/grammar/regex.h"

namespace lode::text::grammar {

Result<std::shared_ptr<const Grammar>> CompileRegex(std::string_view pattern,
                                                    const CompileLimits& limits) {
  GrammarBuilder builder(limits.grammar);
  LODE_ASSIGN(const NodeId root, RegexNode(&builder, pattern));
  return builder.Finish(root);
}

}  // namespace lode::text::grammar
