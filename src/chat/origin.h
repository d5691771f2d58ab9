// Whom a request belongs to.
#pragma once

#include <cstdint>
#include <string>

#include "chat/backend.h"

namespace lode::chat {

struct Origin {
  std::string tenant, salt;
  TenantLimits limits = {};
  int32_t priority = 0;
  int64_t contexts_max = -1;  // that the tenant may keep; below 0: as many as anybody
  bool may_publish = true;    // beginnings for all tenants
};

}  // namespace lode::chat
