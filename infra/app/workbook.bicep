// A page in the portal: calls, how long they take, what fails, and how many instances there are.

param location string
param tags object
param workspaceId string

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'rowgate-workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Rowgate'
    category: 'workbook'
    version: 'Notebook/1.0'
    sourceId: workspaceId
    serializedData: loadTextContent('workbook.json')
  }
}
