{{- /* Written by selfhost render. What a schema cannot say: values that have to fit each other. Writes no object. */}}
{{- $values := .Values }}
{{- $pods := list (list "server" $values.server) }}
{{- if $values.download }}
{{- $pods = append $pods (list "download.pod" $values.download.pod) }}
{{- end }}
{{- range $pods }}
{{- $at := index . 0 }}
{{- $pod := index . 1 }}
{{- $volumes := list }}
{{- range $pod.volumes }}
{{- if has .name $volumes }}
{{- fail (printf "%s.volumes: two volumes are called %s" $at .name) }}
{{- end }}
{{- $volumes = append $volumes .name }}
{{- end }}
{{- $claims := list }}
{{- range $pod.resourceClaims }}
{{- $claims = append $claims .name }}
{{- end }}
{{- range concat $pod.init $pod.containers }}
{{- $container := . }}
{{- range .mounts }}
{{- if not (has .name $volumes) }}
{{- fail (printf "%s: container %s mounts %s, which is none of the pod's volumes" $at $container.name .name) }}
{{- end }}
{{- end }}
{{- range .claims }}
{{- if not (has . $claims) }}
{{- fail (printf "%s: container %s claims %s, which is none of the pod's resourceClaims" $at $container.name .) }}
{{- end }}
{{- end }}
{{- $names := list }}
{{- range .env }}
{{- if has .name $names }}
{{- fail (printf "%s: container %s has the variable %s twice" $at $container.name .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- if and .preStop (le (int64 $pod.grace) (int64 .preStop)) }}
{{- fail (printf "%s.grace: %d s are over before the %d s of preStop of container %s" $at (int64 $pod.grace) (int64 .preStop) .name) }}
{{- end }}
{{- if and .probes (eq $at "server") }}
{{- $budget := mul (int64 .probes.period) (int64 .probes.startupFailures) }}
{{- if gt $budget (int64 $values.progressDeadline) }}
{{- fail (printf "progressDeadline: %d s are over before the %d s that the start-up probe waits (period x startupFailures)" (int64 $values.progressDeadline) $budget) }}
{{- end }}
{{- end }}
{{- if .devices }}
{{- $ranks := 1 }}
{{- range .args }}
{{- if regexMatch "^--(tensor-parallel-size|tp|tp-size|pipeline-parallel-size|pp|pp-size)=[0-9]{1,4}$" . }}
{{- $ranks = mul $ranks (atoi (regexFind "[0-9]+$" .)) }}
{{- end }}
{{- end }}
{{- $count := 0 }}
{{- range .devices }}
{{- $count = add $count (atoi .count) }}
{{- end }}
{{- if gt $ranks $count }}
{{- fail (printf "%s: container %s divides the model over %d GPUs and asks for %d (devices[].count)" $at .name $ranks $count) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
