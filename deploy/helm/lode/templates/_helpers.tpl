{{/* Names and labels that the other files share. */}}
{{- define "lode.name" -}}
{{- if contains "lode" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-lode" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- define "lode.selector" -}}
app.kubernetes.io/name: lode
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "lode.labels" -}}
{{ include "lode.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "lode.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Exactly one of three says who may come in. */}}
{{- define "lode.keysSecret" -}}
{{- if .Values.keys.existingSecret }}{{ .Values.keys.existingSecret }}
{{- else if .Values.keys.lines }}{{ include "lode.name" . }}-keys
{{- else if not .Values.keys.none }}
{{- fail "keys: give existingSecret or lines, or say none: true" }}
{{- end -}}
{{- end -}}

{{- define "lode.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
