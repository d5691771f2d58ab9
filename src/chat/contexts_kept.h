// One context as Contexts keeps it. Only for the files of the implementation.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "chat/contexts.h"

namespace lode::chat {

struct Contexts::Kept {
  using Clock = std::chrono::steady_clock;

  // Immutable.
  std::string id, tenant, salt, parent;
  TenantLimits limits;
  int64_t created = 0;

  // Of Contexts' mutex.
  std::string name, saved_as;
  ContextText text;
  ContextPin pin = ContextPin::kNone;
  bool published = false, running = false, removed = false;
  double ttl_seconds = 0.0;
  Clock::time_point used = Clock::now();
  std::shared_ptr<const runtime::Match> reuse;

  bool Expired() const {
    const std::chrono::duration<double> idle = Clock::now() - used;
    return ttl_seconds > 0.0 && !running && pin == ContextPin::kNone && idle.count() > ttl_seconds;
  }

  // The engine thread's.
  std::optional<runtime::RootId> root;  // entered
  runtime::PinId memory_pin = runtime::kNone;
};

}  // namespace lode::chat
