{{- /* Written by selfhost render. Text as a YAML scalar that gives the same text back, whatever stands in it. JSON is
YAML, except for a few characters that YAML does not take as they are. */}}
{{- define "selfhost.q" -}}
{{- $text := toJson (toString .) -}}
{{- if regexMatch "[\\x{7f}-\\x{9f}\\x{feff}\\x{fffe}\\x{ffff}]" $text -}}
{{- range concat (untilStep 127 160 1) (list 65279 65534 65535) -}}
{{- $text = replace (printf "%c" .) (printf "\\u%04x" .) $text -}}
{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}
