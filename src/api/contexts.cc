#include "api/contexts.h"

#include <algorithm>

#include "base/text.h"
#include "hub/store.h"
#include "kernels/isa.h"
#include "runtime/context_chain.h"

namespace lode::api {
namespace {

constexpr size_t kSample = 4096;
// Changes whenever kernels sum in another order: then old states would not continue with these bits.
constexpr int kKernelSet = 1;

std::string DescribeModel(const tensor::TensorSource& source) {
  std::string text;
  for (const tensor::TensorInfo& info : source.tensors()) {
    text += info.name + "\n" + tensor::Name(info.dtype);
    for (const int64_t dim : info.shape) text += " " + std::to_string(dim);
    text += "\n";
    const auto bytes = source.View(info).bytes;
    const size_t count = std::min(kSample, bytes.size());
    for (const size_t at : {size_t{0}, (bytes.size() - count) / 2, bytes.size() - count}) {
      text.append(reinterpret_cast<const char*>(bytes.data()) + at, count);
    }
  }
  return text;
}

}  // namespace

Result<runtime::ContextStore> OpenContexts() {
  LODE_ASSIGN(const hub::Store models, hub::Store::OfUser());
  return runtime::ContextStore::Open(models.home() + "/contexts");
}

runtime::ContextFingerprints FingerprintsOf(const Running& running, const TextTools& tools) {
  runtime::ContextFingerprints prints;
  const tensor::TensorSource& source = *running.source;
  prints.model = {runtime::Sha256(DescribeModel(source)), source.path()};
  std::string vocabulary;
  for (int32_t id = 0; id < static_cast<int32_t>(running.model->spec.vocabulary); ++id) {
    const auto text = tools.tokenizer->Decode({&id, 1});
    vocabulary += text.ok() ? *text : "";
    vocabulary += '\0';
  }
  prints.tokenizer = {runtime::Sha256(vocabulary), source.path()};
  prints.chat_template = {runtime::Sha256(tools.template_source), source.path()};
  const model::Numerics& numerics = running.options.numerics;
  const std::string text =
      Format("kernels %d, %s, activations %d, kv %s", kKernelSet, Name(kernels::ActiveIsa()),
             static_cast<int>(numerics.activations), Name(numerics.kv));
  prints.numerics = {runtime::Sha256(text), text};
  return prints;
}

}  // namespace lode::api
