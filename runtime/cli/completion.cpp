#include <fmt/format.h>

#include "runtime/cli/session.hpp"

namespace varve::cli {

namespace {

std::vector<const CLI::App*> verbs_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* x) { return !x->get_name().empty(); });
}

std::string options_of(const CLI::App& app) {
  std::string text;
  for (const auto* x : app.get_options())
    if (!x->get_lnames().empty())
      text += " --" + x->get_lnames()[0];
  return text;
}

bool takes_volume(const CLI::App& app) {
  for (const auto* x : app.get_options())
    if (x->get_name() == "VOLUME")
      return true;
  return false;
}

// One line for each verb: what may follow it.
// The script's names are no special parameters of zsh, which runs it too: there, to set `path` is to set PATH.
void bash_cases(const CLI::App& app, const std::string& verb, std::string& text) {
  std::string words;
  for (const auto* x : verbs_of(app))
    words += ' ' + x->get_name();
  text += fmt::format("    '{}') choices='{}{}'{} ;;\n", verb, words.empty() ? "" : words.substr(1), options_of(app),
                      takes_volume(app) ? "; volumes=1" : "");
  for (const auto* x : verbs_of(app))
    bash_cases(*x, verb.empty() ? x->get_name() : verb + ' ' + x->get_name(), text);
}

std::string bash(const CLI::App& app) {
  std::string cases;
  bash_cases(app, "", cases);
  return R"sh(# bash completion for varve: source <(varve completion bash)
_varve() {
  local current=${COMP_WORDS[COMP_CWORD]} verb= choices= volumes= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --socket|--config|--node|--timeout) ((i++)) ;;
      -*) ;;
      *) if _varve_choices "${verb:+$verb }${COMP_WORDS[i]}"; then verb="${verb:+$verb }${COMP_WORDS[i]}"; fi ;;
    esac
  done
  volumes=
  _varve_choices "$verb"
  choices="$choices )sh" +
         options_of(app).substr(1) + R"sh("
  if [ -n "$volumes" ]; then
    choices="$choices $(varve volume ls --no-headers --timeout 1s 2>/dev/null | awk '{print $1}')"
  fi
  COMPREPLY=($(compgen -W "$choices" -- "$current"))
}
_varve_choices() {
  case $1 in
)sh" + cases +
         R"sh(    *) return 1 ;;
  esac
}
complete -o default -F _varve varve
)sh";
}

void fish_lines(const CLI::App& app, const std::vector<std::string>& path, std::string& text) {
  std::string condition = "__fish_use_subcommand";
  if (!path.empty()) {
    condition.clear();
    for (const auto& x : path)
      condition += (condition.empty() ? "" : "; and ") + fmt::format("__fish_seen_subcommand_from {}", x);
  }
  for (const auto* x : verbs_of(app)) {
    auto when = condition;
    if (!path.empty()) {
      when += "; and not __fish_seen_subcommand_from";
      for (const auto* y : verbs_of(app))
        when += ' ' + y->get_name();
    }
    auto about = x->get_description();
    for (size_t at = 0; (at = about.find('\'', at)) != std::string::npos; at += 2)
      about.insert(at, "\\");
    text += fmt::format("complete -c varve -f -n '{}' -a {} -d '{}'\n", when, x->get_name(), about);
  }
  for (const auto* x : app.get_options())
    if (!x->get_lnames().empty())
      text += fmt::format("complete -c varve -n '{}' -l {}\n", path.empty() ? "true" : condition, x->get_lnames()[0]);
  if (takes_volume(app))
    text += fmt::format("complete -c varve -f -n '{}' -a '(varve volume ls --no-headers --timeout 1s 2>/dev/null | awk "
                        "\"{{print \\$1}}\")'\n",
                        condition);
  for (const auto* x : verbs_of(app)) {
    auto inner = path;
    inner.push_back(x->get_name());
    fish_lines(*x, inner, text);
  }
}

} // namespace

void add_completion(CLI::App& app, session& s) {
  auto* x = app.add_subcommand("completion", "Print the completion for a shell: source <(varve completion bash)");
  auto shell = std::make_shared<std::string>();
  x->add_option("SHELL", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  x->callback([&app, shell, &s] {
    std::string text;
    if (*shell == "fish")
      fish_lines(app, {}, text);
    else
      text = (*shell == "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : "") + bash(app);
    fmt::print("{}", text);
    s.exit = success;
  });
}

} // namespace varve::cli
