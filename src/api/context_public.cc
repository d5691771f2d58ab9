#include "api/context_public.h"

#include <cstring>
#include <utility>

namespace lode::api {

v1::Error Public(const Error& error) {
  v1::Code code = v1::Code::kInternal;
  switch (error.code()) {
    case Code::kBadInput:
      code = v1::Code::kBadInput;
      break;
    case Code::kNotFound:
      code = v1::Code::kNotFound;
      break;
    case Code::kUnsupported:
      code = v1::Code::kUnsupported;
      break;
    case Code::kNoSpace:
      code = v1::Code::kNoSpace;
      break;
    case Code::kCancelled:
      code = v1::Code::kCancelled;
      break;
    case Code::kNetwork:
    case Code::kInternal:
      break;
  }
  return {code, error.message(), error.hint()};
}

v1::Stop Public(runtime::StopReason stop) {
  switch (stop) {
    case runtime::StopReason::kStopToken:
      return v1::Stop::kStopToken;
    case runtime::StopReason::kLength:
      return v1::Stop::kLength;
    case runtime::StopReason::kContextFull:
      return v1::Stop::kContextFull;
    case runtime::StopReason::kCancelled:
      return v1::Stop::kCancelled;
  }
  return v1::Stop::kCancelled;
}

v1::Reuse Public(const runtime::Match& match) {
  v1::Reuse reuse;
  reuse.prompt = match.prompt;
  reuse.cached = match.resume;
  reuse.computed = match.computed();
  reuse.lost = match.lost();
  reuse.reason = Name(match.reason);
  if (match.resume > 0) reuse.point = Name(match.role);
  reuse.divergence = match.divergence;
  reuse.was = match.was;
  reuse.now = match.now;
  return reuse;
}

v1::Digest Public(const runtime::ContextDigest& digest) {
  v1::Digest out;
  static_assert(sizeof(out.bytes) == sizeof(digest));
  std::memcpy(out.bytes.data(), digest.data(), sizeof(digest));
  return out;
}

std::shared_ptr<runtime::Constraint> AllowedOnly(const v1::GenerateOptions& options,
                                                 const runtime::Request& request,
                                                 int64_t vocabulary) {
  runtime::TokenMask mask(vocabulary);
  for (const v1::Token token : options.allowed) mask.Allow(token);
  for (const v1::Token token : request.stop_ids) {
    if (0 <= token && token < vocabulary) mask.Allow(token);
  }
  return std::make_shared<runtime::AllowList>(std::move(mask));
}

runtime::SamplingOptions Internal(const v1::Sampling& sampling) {
  runtime::SamplingOptions options;
  options.temperature = sampling.temperature;
  options.top_k = sampling.top_k;
  options.top_p = sampling.top_p;
  options.min_p = sampling.min_p;
  options.typical_p = sampling.typical_p;
  options.repetition_penalty = sampling.repetition_penalty;
  options.frequency_penalty = sampling.frequency_penalty;
  options.presence_penalty = sampling.presence_penalty;
  for (const auto& [token, bias] : sampling.logit_bias) {
    options.logit_bias.push_back({token, bias});
  }
  options.seed = sampling.seed;
  options.choice = sampling.choice;
  return options;
}

}  // namespace lode::api
