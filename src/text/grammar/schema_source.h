// A JSON schema as a document: which drafts' rules hold, and where $ref leads. References stay
// inside of the document ($defs, pointers, $id, $anchor); nothing is ever fetched.
//
// A document that does not name its draft is read as each of them would: a reference must lead to
// one place in all readings in which it leads anywhere, or it is refused.
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
  // The document says no draft. What stands beside $ref holds then, which asks for no less than any
  // draft does, as long as it is not negated.
  bool draft_unknown() const { return readings_.size() > 1 || draft_unknown_; }
  // What `ref`, written in `schema`, leads to. Errors: kUnsupported for another document, kBadInput
  // for a place that is not there.
  Result<const Json*> Resolve(const Json& schema, std::string_view ref) const;
  // Where a schema stands: "#/properties/a".
  std::string PathOf(const Json& schema) const;

 private:
  // What makes the base against which references resolve, by draft: "id" (4), "$id" (6 and later);
  // beside $ref it says nothing up to 7.
  struct Reading {
    const char* id;
    bool beside_ref;
    std::vector<std::string> bases{""};
    std::vector<int> base_of{};  // index in bases, by number of the node
    std::unordered_map<std::string, const Json*> resources{};  // by URI without fragment
    std::unordered_map<std::string, const Json*> anchors{};    // by URI with fragment
  };
  struct Place {
    const Json* parent = nullptr;
    std::string key;
    size_t number = 0;
  };
  Result<void> Index(const Json& node, const Json* parent, const std::string& key, bool is_data,
                     int depth);
  static int AddIds(const Json& node, int base, Reading* reading);
  static Result<const Json*> Resolve(const Reading& reading, int base, std::string_view ref);

  const Json* root_ = nullptr;
  bool ref_hides_siblings_ = false, draft_unknown_ = false;
  std::unordered_map<const Json*, Place> places_;
  std::vector<Reading> readings_;
};

}  // namespace lode::text::grammar
