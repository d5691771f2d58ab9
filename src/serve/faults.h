// What can go wrong, once for all dialects: each fault has a status and a name in each of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "chat/backend.h"
#include "serve/http/message.h"

namespace lode::serve {

enum class Dialect : uint8_t { kOpenAi, kAnthropic };

enum class Fault : uint8_t {
  kBadRequest,
  kUnsupported,
  kTooLong,  // the prompt can never fit
  kNoKey,
  kForbidden,
  kNoModel,
  kNoContext,
  kNoRoute,
  kWrongMethod,
  kBusy,       // another request runs on the context
  kTooSlow,    // the request did not come in time
  kTooLarge,   // the body
  kMediaType,  // the body is not said to be JSON
  kHeaders,    // too large, too many
  kQueueFull,
  kTooOften,  // more requests than the key may send in a minute
  kInternal,
  kNoRoom,       // for a context: in memory, on disk, in a quota
  kUnavailable,  // loading, draining, out of room
  kDeadline,
};

struct Problem {
  Fault fault = Fault::kInternal;
  std::string message;
  std::string param = {};      // the field's path
  double retry_seconds = 0.0;  // 0: when it may be tried again is not known
};

Problem ProblemOf(const Error& error);
Problem ProblemOf(const chat::Failure& failure);
Fault FaultOfStatus(int status);  // of what the HTTP layer refuses
int StatusOf(Dialect dialect, Fault fault);

// Every row of that table.
struct FaultInfo {
  Fault fault = Fault::kInternal;
  int status = 0;
  const char* type = "";
  const char* code = "";
};
std::vector<FaultInfo> AllFaults();

// The dialect's error object, as a body or as the data of an event.
Json ErrorBody(Dialect dialect, const Problem& problem, const std::string& request_id);
HttpResponse ErrorResponse(Dialect dialect, const Problem& problem, const std::string& request_id);

// The dialect that is spoken at a path.
Dialect DialectOf(std::string_view path);

}  // namespace lode::serve
