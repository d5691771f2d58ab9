#include "serve/faults.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "serve/fields.h"

namespace lode::serve {
namespace {

struct Row {
  Fault fault;
  int status;
  const char* type;  // OpenAI's
  const char* code;
  const char* anthropic;
  bool retry;  // the same request may succeed later
};

constexpr const char* kInvalid = "invalid_request_error";

constexpr std::array<Row, 20> kRows = {{
    {Fault::kBadRequest, 400, kInvalid, "invalid_value", kInvalid, false},
    {Fault::kUnsupported, 400, kInvalid, "unsupported_value", kInvalid, false},
    {Fault::kTooLong, 400, kInvalid, "context_length_exceeded", kInvalid, false},
    {Fault::kNoKey, 401, "authentication_error", "invalid_api_key", "authentication_error", false},
    {Fault::kForbidden, 403, "permission_error", "forbidden", "permission_error", false},
    {Fault::kNoModel, 404, kInvalid, "model_not_found", "not_found_error", false},
    {Fault::kNoContext, 404, kInvalid, "context_not_found", "not_found_error", false},
    {Fault::kNoRoute, 404, kInvalid, "not_found", "not_found_error", false},
    {Fault::kWrongMethod, 405, kInvalid, "method_not_allowed", kInvalid, false},
    {Fault::kBusy, 409, kInvalid, "context_busy", kInvalid, true},
    {Fault::kTooSlow, 408, kInvalid, "request_timeout", "timeout_error", true},
    {Fault::kTooLarge, 413, kInvalid, "request_too_large", "request_too_large", false},
    {Fault::kMediaType, 415, kInvalid, "unsupported_media_type", kInvalid, false},
    {Fault::kHeaders, 431, kInvalid, "headers_too_large", kInvalid, false},
    {Fault::kQueueFull, 429, "rate_limit_error", "queue_full", "rate_limit_error", true},
    {Fault::kTooOften, 429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error", true},
    {Fault::kInternal, 500, "server_error", "internal_error", "api_error", false},
    {Fault::kUnavailable, 503, "server_error", "unavailable", "overloaded_error", true},
    {Fault::kNoRoom, 507, "server_error", "no_room", "api_error", false},
    {Fault::kDeadline, 504, "timeout", "deadline_exceeded", "timeout_error", false},
}};

const Row& RowOf(Fault fault) {
  return *std::find_if(kRows.begin(), kRows.end(),
                       [&](const Row& row) { return row.fault == fault; });
}

constexpr double kRetrySecondsMax = 60.0;  // clients give up on more

}  // namespace

Problem ProblemOf(const Error& error) {
  Problem problem;
  switch (error.code()) {
    case Code::kBadInput:
      problem.fault = Fault::kBadRequest;
      break;
    case Code::kUnsupported:
      problem.fault = Fault::kUnsupported;
      break;
    case Code::kNoSpace:
      problem.fault = Fault::kTooLong;
      break;
    case Code::kNotFound:
      problem.fault = Fault::kNoModel;
      break;
    case Code::kCancelled:
      problem.fault = Fault::kUnavailable;
      break;
    case Code::kNetwork:
    case Code::kInternal:
      problem.fault = Fault::kInternal;
      break;
  }
  problem.message = error.ToString();
  problem.param = ParamOf(error);
  if (problem.param != "context") return problem;
  // Of contexts (chat/contexts.h).
  if (error.code() == Code::kNotFound) problem.fault = Fault::kNoContext;
  if (error.code() == Code::kNoSpace) problem.fault = Fault::kNoRoom;
  if (error.code() == Code::kCancelled) problem.fault = Fault::kBusy;
  return problem;
}

Problem ProblemOf(const chat::Failure& failure) {
  Problem problem;
  problem.message = failure.error.ToString();
  problem.retry_seconds = failure.retry_seconds;
  switch (failure.cause) {
    case chat::Cause::kBadRequest:
      problem.fault = Fault::kBadRequest;
      break;
    case chat::Cause::kTooLong:
      problem.fault = Fault::kTooLong;
      break;
    case chat::Cause::kQueueFull:
      problem.fault = Fault::kQueueFull;
      break;
    case chat::Cause::kNoRoom:
    case chat::Cause::kStopping:
      problem.fault = Fault::kUnavailable;
      break;
    case chat::Cause::kInternal:
      problem.fault = Fault::kInternal;
      break;
  }
  return problem;
}

Fault FaultOfStatus(int status) {
  if (status == 414) return Fault::kHeaders;
  for (const Row& row : kRows) {
    if (row.status == status) return row.fault;
  }
  return status < 500 ? Fault::kBadRequest : Fault::kUnavailable;
}

int StatusOf(Dialect dialect, Fault fault) {
  if (dialect == Dialect::kAnthropic && fault == Fault::kUnavailable) return 529;
  return RowOf(fault).status;
}

std::vector<FaultInfo> AllFaults() {
  std::vector<FaultInfo> faults;
  for (const Row& row : kRows) faults.push_back({row.fault, row.status, row.type, row.code});
  return faults;
}

Json ErrorBody(Dialect dialect, const Problem& problem, const std::string& request_id) {
  const Row& row = RowOf(problem.fault);
  if (dialect == Dialect::kAnthropic) {
    return {{"type", "error"},
            {"error", {{"type", row.anthropic}, {"message", problem.message}}},
            {"request_id", request_id}};
  }
  Json error = {{"message", problem.message}, {"type", row.type}};
  error["param"] = problem.param.empty() ? Json(nullptr) : Json(problem.param);
  error["code"] = row.code;
  return {{"error", std::move(error)}};
}

HttpResponse ErrorResponse(Dialect dialect, const Problem& problem, const std::string& request_id) {
  const Row& row = RowOf(problem.fault);
  HttpResponse response;
  response.status = StatusOf(dialect, problem.fault);
  response.body = DumpJson(ErrorBody(dialect, problem, request_id));
  if (problem.fault == Fault::kQueueFull || problem.fault == Fault::kTooOften ||
      problem.fault == Fault::kUnavailable) {
    const double seconds = std::clamp(std::ceil(problem.retry_seconds), 1.0, kRetrySecondsMax);
    response.headers.emplace_back("Retry-After", std::to_string(static_cast<int>(seconds)));
  }
  // Clients try again on their own from 500 on: not where the same request fails again.
  if (response.status >= 500 && !row.retry) {
    response.headers.emplace_back("x-should-retry", "false");
  }
  if (problem.fault == Fault::kNoKey) {
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
  }
  return response;
}

Dialect DialectOf(std::string_view path) {
  return path.starts_with("/v1/messages") || path.starts_with("/messages") ? Dialect::kAnthropic
                                                                           : Dialect::kOpenAi;
}

}  // namespace lode::serve
