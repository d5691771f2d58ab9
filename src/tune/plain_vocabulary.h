// Tokenizers that need no training: one token for each character of a text, or for each byte. They
// are files of a checkpoint, as any tokenizer of the `tokenizers` library, so whatever opens the
// checkpoint cuts texts as the trainer did.
// Ids 0 and 1 are <unk> and </s>, the end of a document.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace lode::tune {

// Plain name -> content: tokenizer.json, tokenizer_config.json, chat_template.jinja (which gives
// the texts of a dialogue as they are, one after the other), generation_config.json.
using TextFiles = std::map<std::string, std::string>;

// Every character of `text` (valid UTF-8), by code point.
TextFiles CharacterVocabulary(std::string_view text);
TextFiles ByteVocabulary();

}  // namespace lode::tune
