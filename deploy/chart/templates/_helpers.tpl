{{- define "peeklock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "peeklock.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "peeklock.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "peeklock.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "peeklock.selectorLabels" -}}
app.kubernetes.io/name: {{ include "peeklock.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "peeklock.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "peeklock.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "peeklock.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The Secret with the rules; nothing if there are none. */}}
{{- define "peeklock.rulesSecret" -}}
{{- if .Values.auth.existingSecret -}}
{{ .Values.auth.existingSecret }}
{{- else if .Values.auth.rules -}}
{{ include "peeklock.fullname" . }}
{{- end -}}
{{- end -}}

{{/* The Secret with the token of metrics; nothing if there is none. */}}
{{- define "peeklock.metricsSecret" -}}
{{- if .Values.metrics.existingSecret -}}
{{ .Values.metrics.existingSecret }}
{{- else if .Values.metrics.token -}}
{{ include "peeklock.fullname" . }}
{{- end -}}
{{- end -}}

{{/* Rules as the broker reads them. Strings of JSON are strings of TOML as well. */}}
{{- define "peeklock.rules" -}}
{{- $rules := list -}}
{{- range .Values.auth.rules -}}
{{- $fields := list (printf "name = %s" (toJson .name)) (printf "primary_key = %s" (toJson .primaryKey)) -}}
{{- with .secondaryKey }}{{ $fields = append $fields (printf "secondary_key = %s" (toJson .)) }}{{ end -}}
{{- $fields = append $fields (printf "rights = %s" (toJson .rights)) -}}
{{- with .entity }}{{ $fields = append $fields (printf "entity = %s" (toJson .)) }}{{ end -}}
{{- $rules = append $rules (printf "{ %s }" (join ", " $fields)) -}}
{{- end -}}
[{{ join ", " $rules }}]
{{- end -}}

{{/* How the pages for health and metrics are asked for. */}}
{{- define "peeklock.scheme" -}}
{{- if .Values.tls.existingSecret }}HTTPS{{ else }}HTTP{{ end -}}
{{- end -}}
