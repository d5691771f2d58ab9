// A JSON schema as a document: which drafts' rules hold, and where $ref leads. References stay
// inside of the document ($defs, pointers, $id, $anchor); nothing is ever fetched.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace lode::text::grammar {

class SchemaSource {
 public:
  // `root` outlives it. Errors: kNoSpace for a schema that is too large, kUnsupported for drafts
  // before 4.
  static Result<SchemaSource> Open(const Json& root);

  const Json& root() const { return *root_; }
  // Drafts up to 7: whatever stands beside $ref is ignored.
  bool ref_hides_siblings() const { return ref_hides_siblings_; }
  // What `ref`, written in `schema`, leads to. Errors: kUnsupported for another document, kBadInput
  // for a place that is not there.
  Result<const Json*> Resolve(const Json& schema, std::string_view ref) const;
  // Where a schema stands: "#/properties/a".
  std::string PathOf(const Json& schema) const;

 private:
  struct Place {
    const Json* parent = nullptr;
    std::string key;
    int base = 0;  // index in bases_
  };
  Result<void> Index(const Json& node, const Json* parent, const std::string& key, int base,
                     bool is_data, int depth);

  const Json* root_ = nullptr;
  bool ref_hides_siblings_ = false;
  size_t nodes_ = 0;
  std::vector<std::string> bases_;
  std::unordered_map<const Json*, Place> places_;
  std::unordered_map<std::string, const Json*> resources_;  // by URI without fragment
  std::unordered_map<std::string, const Json*> anchors_;    // by URI with fragment
};

}  // namespace lode::text::grammar
