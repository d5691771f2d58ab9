// API keys: a file with a name and the SHA-256 of a key per line, never a key itself. It is read
// again when it changes.
//
//   # name    sha256 of the key, in hex (printf %s KEY | sha256sum)     limits
//   alice     2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90
//   batch     81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9     weight=0.1
//
// Limits: weight= of its turns and memory; running= and queue= of its requests, rpm= of them in a
// minute; contexts= that it may keep, pinned_mb= that pinned ones may take; publish=yes: beginnings
// for all.
//
// The name is the tenant: who has different keys shares neither cache nor turns.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "chat/backend.h"

namespace lode::serve {

class Keys {
 public:
  // Errors: kBadInput with the line.
  static Result<Keys> Parse(std::string_view text);
  static Result<Keys> Read(const std::string& path);

  // Whose key it is; empty: nobody's. Takes the same time whichever key is tried.
  std::string Find(std::string_view key) const;
  bool empty() const { return entries_.empty(); }
  struct Rights {
    chat::TenantLimits limits;
    int64_t contexts_max = -1;  // below 0: as many as anybody
    bool may_publish = false;
    int64_t per_minute = 0;  // requests; 0: as many as come
  };
  const std::map<std::string, Rights>& tenants() const { return tenants_; }

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Entry {
    std::string name;
    Digest digest;
  };
  std::vector<Entry> entries_;
  std::map<std::string, Rights> tenants_;
};

}  // namespace lode::serve
