// Reads single fields of a config by the rows of a family's table, whichever of the two formats spells
// them: types, ranges, aliases, layer patterns. What the numbers mean together is config.cc's business.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/text.h"
#include "model/arch/arch.h"
#include "tensor/source.h"

namespace lode::model {

using tensor::Naming;
using tensor::TensorSource;

// The config as one of the two formats spells it.
class ConfigReader {
 public:
  ConfigReader(const TensorSource& source, const ArchDef& arch)
      : source_(source), arch_(arch), gguf_(source.naming() == Naming::kGguf) {
    if (gguf_) prefix_ = GetString(source.config(), "general.architecture") + ".";
  }

  bool gguf() const { return gguf_; }

  // The field's value under the first of its names that is there and not null, or nullptr.
  const Json* Find(const Field& field, std::string* key) const {
    if (gguf_) {
      if (field.gguf == nullptr) return nullptr;
      *key = prefix_ + field.gguf;
      return Present(*key);
    }
    for (const char* name : field.hugging_face) {
      *key = name;
      if (const Json* value = Present(*key)) return value;
    }
    if (!field.hugging_face.empty()) *key = field.hugging_face.front();
    return nullptr;
  }

  const Json* Present(const std::string& key) const {
    const Json* value = FindKey(source_.config(), key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }

  Error Bad(const std::string& key, const std::string& what) const {
    return Error(Code::kBadInput, source_.path() + ": config field " + Quote(key) + " " + what);
  }

  // One field into `hyper`. A GGUF array of integers gives its largest element.
  Result<bool> Read(const Field& field, Hyper* hyper) const {
    std::string key;
    const Json* value = Find(field, &key);
    if (value == nullptr) return false;
    if (field.flag != nullptr) {
      if (!value->is_boolean()) return Bad(key, "is not true or false");
      hyper->*field.flag = value->get<bool>();
      return true;
    }
    if (field.real != nullptr) {
      if (!value->is_number()) return Bad(key, "is not a number");
      const double real = value->get<double>();
      if (!std::isfinite(real) || real < 0.0 || real > 1e6) return Bad(key, "is out of range");
      hyper->*field.real = real;
      return true;
    }
    int64_t number = 0;
    if (value->is_array() && gguf_) {
      LODE_ASSIGN(const std::vector<int64_t> numbers, Integers(key, *value, field.max));
      for (const int64_t n : numbers) number = std::max(number, n);
    } else {
      LODE_ASSIGN(number, Integer(key, *value, field.max));
    }
    hyper->*field.integer = number;
    return true;
  }

  Result<int64_t> Integer(const std::string& key, const Json& value, int64_t max) const {
    if (!value.is_number_integer()) return Bad(key, "is not a whole number");
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(max)) {
      return Bad(key, "is larger than " + WithThousands(static_cast<uint64_t>(max)));
    }
    const auto number = value.get<int64_t>();
    if (number < 0) return Bad(key, "is negative");
    if (number > max)
      return Bad(key, "is larger than " + WithThousands(static_cast<uint64_t>(max)));
    return number;
  }

  Result<std::vector<int64_t>> Integers(const std::string& key, const Json& value,
                                        int64_t max) const {
    std::vector<int64_t> numbers;
    for (const Json& item : value) {
      LODE_ASSIGN(const int64_t number, Integer(key, item, max));
      numbers.push_back(number);
    }
    return numbers;
  }

  // GGUF: a number for each layer, from an array or one scalar for all.
  Result<std::vector<int64_t>> PerLayer(const std::string& name, int64_t layers) const {
    const std::string key = prefix_ + name;
    const Json* value = Present(key);
    if (value == nullptr) return std::vector<int64_t>(static_cast<size_t>(layers), 0);
    if (!value->is_array()) {
      LODE_ASSIGN(const int64_t number, Integer(key, *value, int64_t{1} << 24));
      return std::vector<int64_t>(static_cast<size_t>(layers), number);
    }
    if (static_cast<int64_t>(value->size()) != layers) {
      return Bad(key, Format("has %zu values for %lld layers", value->size(),
                             static_cast<long long>(layers)));
    }
    return Integers(key, *value, int64_t{1} << 24);
  }

  // Hugging Face: the layers' kinds from a pattern string or a list of words; empty when there is none.
  Result<std::vector<BlockKind>> Pattern(const std::vector<const char*>& pattern_keys,
                                         const std::vector<const char*>& list_keys) const {
    std::vector<BlockKind> kinds;
    for (const char* key : pattern_keys) {
      const Json* value = Present(key);
      if (value == nullptr) continue;
      if (!value->is_string()) return Bad(key, "is not a string");
      for (const char letter : value->get_ref<const std::string&>()) {
        const auto row = std::find_if(arch_.layout.begin(), arch_.layout.end(),
                                      [&](const Layout& l) { return l.letter == letter; });
        if (row == arch_.layout.end()) {
          return Error(Code::kUnsupported,
                       source_.path() + ": config field " + Quote(key) + " has the layer letter " +
                           Quote(std::string(1, letter)) + ", which Lode does not know");
        }
        kinds.push_back(row->kind);
      }
      return kinds;
    }
    for (const char* key : list_keys) {
      const Json* value = Present(key);
      if (value == nullptr) continue;
      if (!value->is_array()) return Bad(key, "is not a list");
      for (const Json& word : *value) {
        if (!word.is_string()) return Bad(key, "has an item that is not a string");
        const auto& text = word.get_ref<const std::string&>();
        const auto row =
            std::find_if(arch_.layout.begin(), arch_.layout.end(), [&](const Layout& l) {
              return std::any_of(l.words.begin(), l.words.end(),
                                 [&](const char* known) { return text == known; });
            });
        if (row == arch_.layout.end()) {
          return Error(Code::kUnsupported, source_.path() + ": config field " + Quote(key) +
                                               " has the layer kind " + Quote(text) +
                                               ", which Lode does not know");
        }
        kinds.push_back(row->kind);
      }
      return kinds;
    }
    return kinds;
  }

 private:
  const TensorSource& source_;
  const ArchDef& arch_;
  bool gguf_;
  std::string prefix_;
};

}  // namespace lode::model
