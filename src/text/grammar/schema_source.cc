#include "text/grammar/schema_source.h"

#include <algorithm>
#include <optional>

namespace lode::text::grammar {
namespace {

constexpr size_t kNodesMax = 500000;
constexpr int kDepthMax = 128;

// RFC 3986, 5.2, for what schemas write: absolute, "//host", "/path", "path", "" against a base.
std::string ResolveUri(const std::string& base, std::string_view ref) {
  const size_t colon = ref.find(':');
  const size_t slash = ref.find_first_of("/?#");
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon < slash))
    return std::string(ref);
  if (ref.empty()) return base;
  const size_t scheme = base.find("://");
  const size_t path = scheme == std::string::npos ? 0 : base.find('/', scheme + 3);
  std::string merged;
  if (ref.starts_with("/")) {
    merged = (path == std::string::npos ? base : base.substr(0, path)) + std::string(ref);
  } else {
    const size_t last = base.rfind('/');
    const bool has_path = path != std::string::npos && last != std::string::npos && last >= path;
    merged = (has_path ? base.substr(0, last + 1)
                       : scheme != std::string::npos ? base + "/" : std::string()) +
             std::string(ref);
  }
  for (size_t at; (at = merged.find("/./")) != std::string::npos;) merged.erase(at, 2);
  for (size_t at; (at = merged.find("/../")) != std::string::npos && at > 0;) {
    const size_t before = merged.rfind('/', at - 1);
    if (before == std::string::npos) break;
    merged.erase(before, at + 3 - before);
  }
  return merged;
}

std::string Unescape(std::string_view text) {  // of a pointer in a fragment: %XX, then ~0 and ~1
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto hex = [](char c) {
      if (c >= '0' && c <= '9') return c - '0';
      return (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    };
    if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      plain += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    } else {
      plain += text[i];
    }
  }
  std::string result;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] == '~' && i + 1 < plain.size() && (plain[i + 1] == '0' || plain[i + 1] == '1')) {
      result += plain[++i] == '0' ? '~' : '/';
    } else {
      result += plain[i];
    }
  }
  return result;
}

}  // namespace

Result<SchemaSource> SchemaSource::Open(const Json& root) {
  SchemaSource source;
  source.root_ = &root;
  const std::string draft = GetString(root, "$schema");
  const auto names = [&](std::initializer_list<const char*> parts) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const char* part) { return draft.find(part) != std::string::npos; });
  };
  if (names({"draft-03", "draft-02", "draft-01"}))
    return Error(Code::kUnsupported, "#/$schema: drafts before 4 are not supported",
                 "write it in draft 7 or 2020-12");
  const bool four = names({"draft-04", "draft-05"}), seven = names({"draft-06", "draft-07"});
  const bool later = names({"2019-09", "2020-12", "draft/next"});
  source.ref_hides_siblings_ = four || seven;
  source.draft_unknown_ = !four && !seven && !later;
  if (four || source.draft_unknown_) source.readings_.push_back({.id = "id", .beside_ref = false});
  if (seven || source.draft_unknown_)
    source.readings_.push_back({.id = "$id", .beside_ref = false});
  if (later || source.draft_unknown_)
    source.readings_.push_back({.id = "$id", .beside_ref = true});
  for (Reading& reading : source.readings_) reading.resources[""] = &root;
  LODE_TRY(source.Index(root, nullptr, "", false, 0));
  return source;
}

// The base below `node`, and the names that it has.
int SchemaSource::AddIds(const Json& node, int base, Reading* reading) {
  const std::string name = GetString(node, reading->id);
  if (!name.empty() && (reading->beside_ref || FindKey(node, "$ref") == nullptr)) {
    const std::string uri = ResolveUri(reading->bases[static_cast<size_t>(base)], name);
    const size_t hash = uri.find('#');
    const bool anchor = hash != std::string::npos && hash + 1 < uri.size();
    if (anchor) reading->anchors.try_emplace(uri, &node);  // before 2019: "$id": "#name"
    if (!anchor || (hash > 0 && name[0] != '#')) {
      reading->bases.push_back(uri.substr(0, hash));
      base = static_cast<int>(reading->bases.size() - 1);
      reading->resources.try_emplace(reading->bases.back(), &node);
    }
  }
  for (const char* anchor : {"$anchor", "$dynamicAnchor"}) {
    const std::string label = GetString(node, anchor);
    if (!label.empty())
      reading->anchors.try_emplace(reading->bases[static_cast<size_t>(base)] + "#" + label, &node);
  }
  return base;
}

Result<void> SchemaSource::Index(const Json& node, const Json* parent, const std::string& key,
                                 bool is_data, int depth) {
  if (places_.size() >= kNodesMax) return Error(Code::kNoSpace, "the schema is too large");
  if (depth > kDepthMax) return Error(Code::kNoSpace, "the schema is nested too deeply");
  const size_t number = places_.size(), above = parent == nullptr ? 0 : places_[parent].number;
  places_[&node] = {parent, key, number};
  for (Reading& reading : readings_) {
    const int base = parent == nullptr ? 0 : reading.base_of[above];
    reading.base_of.push_back(node.is_object() && !is_data ? AddIds(node, base, &reading) : base);
  }
  if (node.is_object()) {
    for (const auto& [name, child] : node.items()) {
      const bool data = is_data || name == "enum" || name == "const" || name == "default" ||
                        name == "examples" || name == "example";
      LODE_TRY(Index(child, &node, name, data, depth + 1));
    }
  } else if (node.is_array()) {
    for (size_t i = 0; i < node.size(); ++i)
      LODE_TRY(Index(node[i], &node, std::to_string(i), is_data, depth + 1));
  }
  return {};
}

Result<const Json*> SchemaSource::Resolve(const Json& schema, std::string_view ref) const {
  const auto place = places_.find(&schema);
  const Json* target = nullptr;
  std::optional<Error> error;
  for (const Reading& reading : readings_) {
    const int base = place == places_.end() ? 0 : reading.base_of[place->second.number];
    const auto found = Resolve(reading, base, ref);
    if (!found.ok()) {
      error = found.error();
    } else if (target != nullptr && target != *found) {
      return Error(Code::kUnsupported,
                   "where $ref " + std::string(ref) + " leads depends on the draft",
                   "name the draft with $schema");
    } else {
      target = *found;
    }
  }
  if (target == nullptr) return *error;
  return target;
}

Result<const Json*> SchemaSource::Resolve(const Reading& reading, int base, std::string_view ref) {
  const size_t hash = ref.find('#');
  const std::string uri =
      ResolveUri(reading.bases[static_cast<size_t>(base)], ref.substr(0, hash));
  const std::string_view fragment = hash == std::string_view::npos ? "" : ref.substr(hash + 1);
  const auto resource = reading.resources.find(uri);
  if (resource == reading.resources.end())
    return Error(Code::kUnsupported,
                 "$ref " + std::string(ref) + " leads to another document",
                 "put what it refers to under $defs");
  if (fragment.empty()) return resource->second;
  if (fragment[0] != '/') {
    const auto anchor = reading.anchors.find(uri + "#" + std::string(fragment));
    if (anchor != reading.anchors.end()) return anchor->second;
    return Error(Code::kBadInput, "$ref " + std::string(ref) + ": there is no such anchor");
  }
  const Json* at = resource->second;
  for (size_t begin = 1; begin <= fragment.size();) {
    const size_t end = std::min(fragment.find('/', begin), fragment.size());
    const std::string key = Unescape(fragment.substr(begin, end - begin));
    const Json* next = nullptr;
    if (at->is_object()) {
      next = FindKey(*at, key);
    } else if (at->is_array() && !key.empty() && key.size() < 9 &&
               std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      const size_t index = std::stoul(key);
      if (index < at->size()) next = &(*at)[index];
    }
    if (next == nullptr)
      return Error(Code::kBadInput, "$ref " + std::string(ref) + " leads nowhere");
    at = next;
    begin = end + 1;
  }
  return at;
}

std::string SchemaSource::PathOf(const Json& schema) const {
  std::string path;
  const Json* at = &schema;
  for (int i = 0; i < kDepthMax * 2 && at != nullptr && at != root_; ++i) {
    const auto place = places_.find(at);
    if (place == places_.end()) return "#";
    path = "/" + place->second.key + path;
    at = place->second.parent;
  }
  return "#" + path;
}

}  // namespace lode::text::grammar
